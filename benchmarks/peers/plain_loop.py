"""The limit: a process a core that decodes the same files from memory in a plain loop, into one array again and again.

    plain_loop.py FOLDER --mode decoded [--decoder condgen|pillow]

With `pillow` it is what a loop of `numpy.asarray(Image.open(...))` does, as the peers that decode with it have it.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
from measure import MODES
from PIL import Image

from pipelines.images.decoding import decode
from pipelines.streaming.augmentation import Crop


def _condgen(mode: str, size_px: int) -> Callable[[bytes], Any]:
    if mode == "large":
        middle = Crop(1.0, 0.5, 0.5, False)
        return lambda data: middle.apply(decode(data, min_size_px=size_px), size_px)
    place = np.empty((size_px, size_px, 3), np.uint8)
    return lambda data: decode(data, out=place)


def _pillow(mode: str, size_px: int) -> Callable[[bytes], Any]:
    def work(data: bytes) -> Any:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        if mode == "decoded":
            return np.asarray(image)
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((size_px, size_px), Image.Resampling.BILINEAR, box=box))

    return work


def _loop(decoder: str, mode: str, size_px: int, paths: list[Path], repeats: int, together: Barrier) -> None:
    work = {"condgen": _condgen, "pillow": _pillow}[decoder](mode, size_px)
    files = [path.read_bytes() for path in paths]
    for _ in range(repeats + 1):
        together.wait()
        for data in files:
            work(data)
        together.wait()


def main() -> None:
    """Measure, and print one JSON line."""
    folder, mode, decoder, size_px, workers, repeats = sys.argv[1:]
    if mode not in MODES[1:]:
        raise SystemExit(f"nothing is decoded in mode {mode}")
    paths = sorted(Path(folder).glob("*.jpg"))
    together = multiprocessing.Barrier(int(workers) + 1)
    for part in range(int(workers)):
        given = (decoder, mode, int(size_px), paths[part :: int(workers)], int(repeats), together)
        multiprocessing.Process(target=_loop, args=given, daemon=True).start()
    seconds = []
    for _ in range(int(repeats) + 1):
        together.wait()
        start = time.perf_counter()
        together.wait()
        seconds.append(time.perf_counter() - start)
    versions = {name: version(name) for name in ("simplejpeg", "pillow")}
    print(json.dumps({"samples": len(paths), "sum": None, "seconds": seconds[1:], "versions": versions}))


if __name__ == "__main__":
    main()
