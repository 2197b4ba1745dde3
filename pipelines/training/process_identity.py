"""Which process this is, so that another one of the same machine can tell whether it is gone."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ProcessIdentity"]

_ENDED = frozenset("ZXx")
"""The states of a process that has ended and is not yet forgotten (proc_pid_stat(5))."""


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """A process, by what is different for every other one.

    Attributes:
        host: name of its host.
        machine: boot of the machine and the namespace of its process numbers, in which containers differ; empty where
            the system does not tell them (it is no Linux).
        pid: its number.
        started: time at which it started (the system's clock ticks since the boot), as numbers are used again.
    """

    host: str
    machine: str
    pid: int
    started: str

    @classmethod
    def own(cls) -> ProcessIdentity:
        """Return this process."""
        started = _state_and_start(os.getpid())
        return cls(
            host=socket.gethostname(), machine=_machine(), pid=os.getpid(), started=started[1] if started else ""
        )

    def is_gone(self) -> bool:
        """Return whether the process is known to have ended; False wherever that can't be seen from here."""
        if not self.machine or not self.started or self.machine != _machine():
            return False
        process = _state_and_start(self.pid)
        if process is None:
            return not _can_be_signaled(self.pid)
        return process[0] in _ENDED or process[1] != self.started


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _state_and_start(pid: int) -> tuple[str, str] | None:
    """Return the state of a process and when it started, or None where there is no such process."""
    try:
        # The second field is the program's name in parentheses, which may have any character.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], fields[19]


def _can_be_signaled(pid: int) -> bool:
    """Return whether there is such a process, also one that the mount of /proc hides from other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
