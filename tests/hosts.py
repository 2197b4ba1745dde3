"""Hosts of namespaces: machines with an address, processes and a /tmp of their own, which are linked, cut off and lost.

    with Network() as network:
        head = network.host("head")
        head.boot("ulimit -n 65536; ray start --head --block", env={...}, log=folder / "head.log")
        head.run("ray", "status", env={...})              # beside it, as kubectl exec does
        head.unplug(); head.plug_in()
        head.lose()                                       # all of its processes are gone at once

What boots is process 1 of its host, as a container's command is. Linux only, and for root: a bridge, a pair of virtual
network devices a host, and a network, a mount and a process namespace.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Host", "Network", "why_not"]

END_S = 20.0


def why_not() -> str:
    """Say what keeps this machine from having such hosts; empty where nothing does."""
    if missing := [name for name in ("ip", "nsenter", "unshare", "pgrep") if not shutil.which(name)]:
        return f"{', '.join(missing)} not found: apt-get install iproute2 util-linux procps"
    done = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "network, mount and process namespaces need root"


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


class Host:
    """A host; `Network.host` makes it.

    Attributes:
        name: how it is called.
        address: its IPv4 address.
    """

    def __init__(self, name: str, address: str, namespace: str, link: str) -> None:
        self.name, self.address = name, address
        self._namespace, self._link = namespace, link
        self._boots: list[subprocess.Popen[bytes]] = []

    def boot(self, line: str, env: Mapping[str, str], log: Path) -> None:
        """Start the host: bash runs a line as process 1, with a /tmp that is empty.

        Args:
            line: line of shell that process 1 runs.
            env: all of its environment.
            log: what it writes is added to this file.
        """
        assert not self.is_up(), f"{self.name} is up"
        inside = 'mount -t tmpfs tmpfs /tmp && mount -t proc proc /proc && exec /bin/bash -c "$1"'
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "sh", "-c", inside, "sh", line]
        with log.open("ab") as sink:
            command = ["ip", "netns", "exec", self._namespace, *unshare]
            boot = subprocess.Popen(command, env=dict(env), stdout=sink, stderr=sink, start_new_session=True)
        self._boots.append(boot)

    def is_up(self) -> bool:
        """Whether process 1 runs."""
        return bool(self._boots) and self._boots[-1].poll() is None

    def first(self) -> int:
        """The id of process 1, as this machine counts.

        Raises:
            ProcessLookupError: the host is down.
        """
        boot = self._boots[-1]
        while boot.poll() is None:
            with suppress(OSError):
                if children := Path(f"/proc/{boot.pid}/task/{boot.pid}/children").read_text().split():
                    return int(children[0])
            time.sleep(0.02)
        raise ProcessLookupError(f"{self.name} is down")

    def start(self, *command: str, env: Mapping[str, str], **options: Any) -> subprocess.Popen[str]:
        """Start a command in the host that has booted, beside its process 1."""
        inside = ["nsenter", "--target", str(self.first()), "--net", "--mount", "--pid", "--", *command]
        return subprocess.Popen(inside, env=dict(env), text=True, start_new_session=True, **options)

    def run(self, *command: str, env: Mapping[str, str], timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run a command there, and return how it ended, with stdout and stderr in one."""
        process = self.start(*command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += f"\nkilled after {timeout_s:.0f} s"
        return subprocess.CompletedProcess(command, process.returncode, output)

    def unplug(self) -> None:
        """Cut its link: nothing comes in, nothing goes out, and nobody is told."""
        _ip("link", "set", self._link, "down")

    def plug_in(self) -> None:
        """Mend its link."""
        _ip("link", "set", self._link, "up")

    def leave(self, hook: Sequence[str], env: Mapping[str, str], grace_s: float) -> float:
        """End the host as Kubernetes ends a pod: its hook, then SIGTERM to process 1, and SIGKILL after its grace.

        Returns the seconds until process 1 has ended.
        """
        began, boot, first = time.monotonic(), self._boots[-1], self.first()
        process = self.start(*hook, env=env)
        while boot.poll() is None and process.poll() is None and time.monotonic() < began + grace_s:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.kill(first, signal.SIGTERM)
        while boot.poll() is None and time.monotonic() < began + grace_s:
            time.sleep(0.05)
        seconds = time.monotonic() - began
        self._end(boot)
        process.wait(END_S)
        return seconds

    def lose(self) -> None:
        """End all of its processes at once; it may boot again."""
        if self._boots:
            self._end(self._boots[-1])

    def _end(self, boot: subprocess.Popen[bytes]) -> None:
        boot.kill()  # its child is killed with it, and all others with that one
        boot.wait(END_S)


class Network:
    """A bridge that hosts are linked to."""

    def __init__(self) -> None:
        self._tag = secrets.token_hex(2)
        self._bridge = f"cg{self._tag}"
        self._net = f"10.{64 + secrets.randbelow(64)}.{secrets.randbelow(256)}"
        self._hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self._net}.254/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in self._hosts.values():
            host.lose()
        for name in self._hosts:
            _ip("netns", "delete", self._namespace(name))
        _ip("link", "delete", self._bridge)

    def _namespace(self, name: str) -> str:
        return f"condgen-{self._tag}-{name}"

    def host(self, name: str) -> Host:
        """Add a host; it has not booted."""
        number = len(self._hosts) + 1
        namespace, link, address = self._namespace(name), f"{self._bridge}-{number}", f"{self._net}.{number}"
        _ip("netns", "add", namespace)
        self._hosts[name] = Host(name, address, namespace, link)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", link, "master", self._bridge, "up")
        for words in (
            f"address add {address}/24 dev eth0",
            "link set eth0 up",
            "link set lo up",
            f"route add default via {self._net}.254",  # Ray asks the kernel which address leads out
        ):
            _ip("-n", namespace, *words.split())
        return self._hosts[name]
