"""LitData: its own chunks, `StreamingDataset` and `StreamingDataLoader` with a worker a core.

    litdata_streaming.py DATA --mode MODE           # measure
    litdata_streaming.py --make FOLDER DATA MODE    # write the JPEGs of a folder as its chunks

It decodes with torchvision's `decode_jpeg`. From S3 it copies chunks to a local folder, new in each pass, as are its
workers then.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize
from litdata.streaming import downloader
from measure import BATCH, Batch, arguments, measure
from PIL import Image


class Pictures(StreamingDataset):
    """Samples as the mode wants them."""

    def __init__(self, mode: str, size_px: int, *places: Any, **options: Any) -> None:
        super().__init__(*places, shuffle=False, **options)
        self._mode, self._size_px = mode, size_px

    def __getitem__(self, index: Any) -> Any:
        """One sample: bytes, or a picture [3, H, W]."""
        image = super().__getitem__(index)["image"]
        if self._mode == "raw":
            return bytes(image)  # a view of its mapped file, which can't leave the worker
        if self._mode == "decoded":
            return image
        from torchvision.transforms.v2 import functional

        side = min(image.shape[1:])
        return functional.resize(functional.center_crop(image, [side, side]), [self._size_px, self._size_px])


def _sample(path: str, mode: str) -> dict[str, Any]:
    return {"image": Path(path).read_bytes() if mode == "raw" else Image.open(path)}


def make(folder: Path, data: Path, mode: str) -> None:
    """Write the JPEGs of a folder, their bytes as they are."""
    paths = [str(path) for path in sorted(folder.glob("*.jpg"))]
    optimize(partial(_sample, mode=mode), paths, str(data), chunk_bytes="32MB", num_workers=2)


def _stack(samples: list[Any]) -> Batch:
    return samples if isinstance(samples[0], bytes) else torch.stack(samples)


def main() -> None:
    """Measure."""
    given = arguments()
    torch.set_num_threads(1)
    remote = "://" in given.data
    # Its S3 client takes no plain HTTP, which the server here speaks, and it has no option for that.
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True  # noqa: SLF001

    def loader(*places: Any, **options: Any) -> StreamingDataLoader:
        dataset = Pictures(given.mode, given.size_px, *places, **options)
        workers = {"num_workers": given.workers, "persistent_workers": not remote}
        return StreamingDataLoader(dataset, batch_size=BATCH, collate_fn=_stack, **workers)

    kept = None if remote else loader(given.data)

    def one_pass() -> Iterator[Batch]:
        if kept is not None:
            yield from kept
            return
        copy = tempfile.mkdtemp()
        options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
        yield from loader(given.data, cache_dir=copy, storage_options=options)
        shutil.rmtree(copy)

    measure(given, one_pass, ("litdata", "torch", "torchvision"))


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        main()
