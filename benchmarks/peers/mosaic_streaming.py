"""MosaicML streaming: MDS shards, `StreamingDataset` and a `DataLoader` with a worker a core.

    mosaic_streaming.py DATA --mode MODE            # measure
    mosaic_streaming.py --make FOLDER DATA MODE     # write the JPEGs of a folder as MDS

From S3 it copies shards to a local folder, which is new in each pass; so are its workers then.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import BATCH, Batch, arguments, measure
from PIL import Image
from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader


class Pictures(StreamingDataset):
    """Samples as the mode wants them."""

    def __init__(self, mode: str, size_px: int, **options: Any) -> None:
        super().__init__(shuffle=False, batch_size=BATCH, **options)
        self._mode, self._size_px = mode, size_px

    def __getitem__(self, at: int) -> Any:
        """One sample: bytes, or a picture [H, W, 3]."""
        image = super().__getitem__(at)["image"]
        if self._mode == "raw":
            return image
        if self._mode == "decoded":
            return np.asarray(image)
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((self._size_px, self._size_px), Image.Resampling.BILINEAR, box=box))


def make(folder: Path, data: Path, mode: str) -> None:
    """Write the JPEGs of a folder as MDS, their bytes as they are."""
    columns = {"image": "bytes" if mode == "raw" else "jpeg"}
    with MDSWriter(out=str(data), columns=columns, size_limit=1 << 25) as writer:
        for path in sorted(folder.glob("*.jpg")):
            writer.write({"image": path.read_bytes() if mode == "raw" else Image.open(path)})


def _stack(samples: list[Any]) -> Batch:
    return samples if isinstance(samples[0], bytes) else torch.from_numpy(np.stack(samples))


def main() -> None:
    """Measure."""
    given = arguments()
    torch.set_num_threads(1)
    remote = "://" in given.data

    def loader(**options: Any) -> DataLoader:
        dataset = Pictures(given.mode, given.size_px, **options)
        workers = {"num_workers": given.workers, "persistent_workers": not remote}
        return DataLoader(dataset, batch_size=BATCH, collate_fn=_stack, **workers)

    kept = None if remote else loader(local=given.data)

    def one_pass() -> Iterator[Batch]:
        if kept is not None:
            yield from kept
            return
        copy = tempfile.mkdtemp()
        yield from loader(remote=given.data, local=copy)
        shutil.rmtree(copy)

    measure(given, one_pass, ("mosaicml-streaming", "torch", "pillow"))


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        main()
