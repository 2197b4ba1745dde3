"""A head of Ray with a dashboard and a token, in a session of its own, for tests of what submits to it."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from chaos_cluster import kill_session

__all__ = ["START_S", "TINY", "Head", "free_port", "wait_for"]

START_S = 240.0
TINY = [
    "model.width=8",
    "model.multipliers=[1,2]",
    "model.norm_groups=4",
    "data.size_px=16",
    "train.batch_size=8",
    "train.steps=100000",
    "train.log_every_steps=5",
    "train.checkpoint_every_steps=100000",
]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(what: str, ready: Callable[[], Any], seconds: float = START_S) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what} took longer than {seconds:.0f} s"
        time.sleep(0.2)


class Head:
    """A head node in a session of its own, with a dashboard and a token."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "head.log"
        self._temp = Path(tempfile.mkdtemp(prefix="head-"))  # short: sockets lie in it
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.port = free_port()
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {**os.environ, **self.token, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
        self._processes: list[subprocess.Popen[Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        try:
            wait_for("the head", self._is_started)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _is_started(self) -> bool:
        """Whether it is; it is started, and again where Ray gave up, after the 30 s that a node has."""
        if not self._processes or self._processes[-1].poll() is not None:
            self._processes.append(self._start())
        return "Ray runtime started" in self._log.read_text()

    def _start(self) -> subprocess.Popen[Any]:
        with self._log.open("w") as log:
            return subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={free_port()}",
                    f"--dashboard-port={self.port}", f"--dashboard-agent-listen-port={free_port()}", "--num-cpus=2",
                    f"--temp-dir={self._temp}", "--object-store-memory=100000000", "--node-ip-address=127.0.0.1",
                ],
                env=self.env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            kill_session(process)
        shutil.rmtree(self._temp, ignore_errors=True)

    def restart_dashboard(self, pause_s: float) -> None:
        """End the dashboard, and start it again with its own command line."""
        found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if self._is_dashboard(path)]
        assert len(found) == 1
        words = found[0].read_bytes().rstrip(b"\0").split(b"\0")
        os.kill(int(found[0].parent.name), signal.SIGTERM)
        wait_for("the end of the dashboard", lambda: not self._is_dashboard(found[0]))
        time.sleep(pause_s)
        self._processes.append(subprocess.Popen(words, env=self.env, start_new_session=True))

    def _is_dashboard(self, path: Path) -> bool:
        with suppress(OSError):
            words = path.read_bytes()
            return b"dashboard/dashboard.py" in words and str(self._temp).encode() in words
        return False
