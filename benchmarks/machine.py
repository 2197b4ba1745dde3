"""What a benchmark says of its machine, and what processes cost on it (Linux's /proc, NVIDIA's NVML)."""

from __future__ import annotations

import os
import platform
import re
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipelines.cluster.starting import usable_cpus

__all__ = ["GpuWatch", "busy_seconds", "describe", "peak_mib", "tree_seconds"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PACKAGES = ("condgen", "torch", "torchvision", "ray", "numpy", "numba", "pillow", "pyarrow")


def describe() -> str:
    """The machine and the versions, in a line."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    model = cpu[1] if cpu else platform.machine()
    versions = ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name)))
    return f"{usable_cpus()} cores of {model}, Python {platform.python_version()}, {versions}"


def _version(name: str) -> str:
    """A package's version; empty where it isn't installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def busy_seconds() -> float:
    """CPU seconds that the whole machine has spent since it started."""
    user, nice, system, _idle, _wait, interrupts, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + interrupts + soft) / _TICKS


def tree_seconds(root: int) -> float:
    """CPU seconds of a process and of those that descend from it and are alive."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        process = int(path.parent.name)
        parents[process], seconds[process] = int(words[1]), (int(words[11]) + int(words[12])) / _TICKS
    total = 0.0
    for process, spent in seconds.items():
        ancestor = process
        while ancestor != root and ancestor in parents:
            ancestor = parents[ancestor]
        total += spent if ancestor == root else 0.0
    return total


def peak_mib(process: int | str = "self") -> float:
    """The most memory that a process had resident; getrusage's ru_maxrss also counts its parent's at the fork."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


class GpuWatch:
    """Asks NVML during a block how busy the GPU is: the share of time in which anything ran on it, of any process."""

    def __init__(self) -> None:
        self._shares: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    @property
    def share(self) -> float | None:
        """The mean over the block; None where there is no GPU or no NVML (the package nvidia-ml-py)."""
        return sum(self._shares) / len(self._shares) if self._shares else None

    def __enter__(self) -> GpuWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        import torch

        if not torch.cuda.is_available():
            return
        while not self._stop.wait(0.2):
            try:
                self._shares.append(torch.cuda.utilization() / 100)
            except Exception:  # noqa: BLE001 - no NVML, or none that tells it: of classes of its own
                return
