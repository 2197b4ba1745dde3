"""What putting colours back onto photographs costs: the compiled loop against the same arithmetic in NumPy passes.

    python -m benchmarks.recolor

Nanoseconds of CPU for a pixel and a draw, in one thread, least of 20; the bytes of both are compared. The colours are
smooth and inside the gamut, vivid, or wild (as of a model that has learned nothing).
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from skimage import data

from condgen.color.colorize import Region, recolor
from tests.condgen.recolor_reference import recolor_reference

_START = (
    "import torch, time, numpy as np, condgen.color.colorize as c; start = time.perf_counter();"
    "c.recolor(np.zeros((8, 8, 3), np.uint8), np.zeros((1, 2, 4, 4), np.float32), (0, 0, 4, 4));"
    "print(time.perf_counter() - start)"
)


def cpu_ns(work: Callable[[], object], pixels: int) -> float:
    """Least of 20 runs."""
    seconds = []
    for _ in range(20):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds) / pixels * 1e9


def main() -> None:
    """Measure, and print one table."""
    torch.set_num_threads(1)
    rgb = np.ascontiguousarray(data.astronaut()[:256, :256])
    region, pixels = Region(0, 0, 64, 64), 3 * 256 * 256
    print(f"{'colours':10}{'compiled':>10}{'NumPy':>10}{'ratio':>8}{'16 bits':>10}   ns a pixel and draw")
    for name, spread in (("faint", 0.05), ("vivid", 0.4), ("wild", 3.0)):
        coarse = torch.from_numpy(np.random.default_rng(0).normal(0, spread, (3, 2, 16, 16)).astype(np.float32))
        ab_n = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear").numpy()
        deep = rgb.astype(np.uint16) * 257
        recolor(deep, ab_n, region)
        assert np.array_equal(recolor(rgb, ab_n, region), recolor_reference(rgb, ab_n, region))
        new = cpu_ns(lambda ab_n=ab_n: recolor(rgb, ab_n, region), pixels)
        old = cpu_ns(lambda ab_n=ab_n: recolor_reference(rgb, ab_n, region), pixels)
        fine = cpu_ns(lambda ab_n=ab_n, deep=deep: recolor(deep, ab_n, region), pixels)
        print(f"{name:10}{new:10.1f}{old:10.1f}{old / new:8.1f}{fine:10.1f}")
    first = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, check=True)
    print(f"first call in a new process, machine code cached: {float(first.stdout):.2f} s")
    names = ("numba", "llvmlite", "numpy")
    print(platform.machine(), "Python", platform.python_version(), *(f"{name} {version(name)}" for name in names))


if __name__ == "__main__":
    main()
