"""Make one shard of a plan: read its files, check that each is a picture, and store a tar of their original bytes."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condgen.errors import ImageError, MissingError
from condgen.statistics import DatasetStatistics, count_ab
from pipelines.datasets import RUN_BYTES, RUN_SAMPLES, Run, ShardInfo
from pipelines.images import FORMATS, ImageInfo, decode, probe
from pipelines.sharding import PictureStatistics, PlannedShard, Rejected, ShardReceipt, SourceFile
from pipelines.storage import Store
from pipelines.tars import TarWriter

__all__ = ["STATISTICS_SIZE_PX", "write_shard"]

STATISTICS_SIZE_PX = 64
"""Statistics are of pictures that are at most this large."""

_READERS = 8
_COUNTED_TOGETHER = 64


@dataclass(frozen=True)
class _Picture:
    """A file that is a picture: its bytes, what its header says, and a small copy ``[h, w, 3]`` uint8."""

    data: bytes
    info: ImageInfo
    small: NDArray[np.uint8]


@dataclass
class _Written:
    """A sample in the tar."""

    key: str
    start: int
    stop: int
    pixels: int


def write_shard(source: Store, dest: Store, shard: PlannedShard, max_pixels: int, threads: int = 2) -> ShardReceipt:
    """Make a shard and store it; the same files give the same bytes.

    A file that is no picture, or a damaged one, is in the receipt's ``rejected`` and not in the tar. A shard of which
    nothing is left is not stored.

    Args:
        source: where the files are.
        dest: where the shard goes.
        shard: of the plan.
        max_pixels: larger pictures are rejected by their headers.
        threads: that decode.

    Raises:
        AccessError, StorageError: files that can't be read, or a shard that can't be stored.
    """
    began = time.monotonic()
    tar, written, rejected, members = TarWriter(), [], [], Counter[str]()
    sizes, rgb_sum, colours = Counter[tuple[int, int]](), np.zeros(3), _Colours()
    # More readers than decoders would be idle on a disk and are needed for object storage, where a read is a wait.
    workers = max(threads, min(_READERS, len(shard.files)))
    with ThreadPoolExecutor(workers, thread_name_prefix="shard") as pool:
        found = pool.map(lambda file: _prepare(source, file, max_pixels), shard.files)
        for file, picture in zip(shard.files, found, strict=True):
            if isinstance(picture, Rejected):
                rejected.append(picture)
                continue
            written.append(_add(tar, file, picture, members))
            sizes[picture.info.width, picture.info.height] += 1
            rgb_sum += picture.small.mean(axis=(0, 1), dtype=np.float64)
            colours.add(picture.small)
    info = None
    if written:
        data = tar.finish()
        digest = hashlib.sha256(data).hexdigest()
        dest.write(shard.name, data)
        info = ShardInfo(name=shard.name, split=shard.split, samples=len(written), size_bytes=len(data), sha256=digest)
    red, green, blue = (float(value) for value in rgb_sum)
    return ShardReceipt(
        name=shard.name,
        info=info,
        runs=tuple(_runs(shard.name, tar, written)),
        members=members,
        rejected=tuple(rejected),
        statistics=PictureStatistics(sizes, (red, green, blue), colours.finish()),
        seconds=time.monotonic() - began,
    )


def _prepare(source: Store, file: SourceFile, max_pixels: int) -> _Picture | Rejected:
    try:
        data = source.read(file.name, file.size_bytes or None)
        info = probe(data, max_pixels=max_pixels)
        small = _shrunk(decode(data, min_size_px=STATISTICS_SIZE_PX, max_pixels=max_pixels))
        return _Picture(data, info, small)
    except MissingError:
        error = ImageError("read", "Missing", "it was listed and is gone, or is a link to nothing")
    except ImageError as found:
        error = found
    shown = file.name.encode("utf-8", "backslashreplace").decode()
    return Rejected(source=shown, key=file.key, stage=error.stage, error=error.error, message=error.detail)


def _shrunk(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(rgb)
    longest = max(image.size)
    if longest > STATISTICS_SIZE_PX:
        width, height = (max(1, round(side * STATISTICS_SIZE_PX / longest)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image)


class _Colours:
    """Counts the colours of many small pictures, a lot at a time: one by one, torch's calls cost more than its work."""

    def __init__(self) -> None:
        self._statistics = DatasetStatistics()
        self._waiting: list[NDArray[np.uint8]] = []

    def add(self, rgb: NDArray[np.uint8]) -> None:
        self._waiting.append(rgb.reshape(-1, 3))
        if len(self._waiting) == _COUNTED_TOGETHER:
            self._count()

    def finish(self) -> DatasetStatistics:
        self._count()
        return self._statistics

    def _count(self) -> None:
        if not self._waiting:
            return
        import torch

        from condgen.color import rgb_to_lab

        pixels = torch.from_numpy(np.concatenate(self._waiting))
        ab = rgb_to_lab((pixels.float() / 255).T.reshape(3, 1, -1))[1:]
        part = DatasetStatistics(num_samples=len(self._waiting), ab_histogram=count_ab(ab.numpy()))
        self._statistics += part
        self._waiting = []


def _add(tar: TarWriter, file: SourceFile, picture: _Picture, members: Counter[str]) -> _Written:
    info = picture.info
    facts = {
        "source": file.name,
        "width": info.width,
        "height": info.height,
        "sha256": hashlib.sha256(picture.data).hexdigest(),
    }
    extension = FORMATS[info.format]
    start, _ = tar.add(f"{file.key}.{extension}", picture.data)
    text = json.dumps(facts, ensure_ascii=False, sort_keys=True).encode("utf-8", "backslashreplace")
    _, stop = tar.add(f"{file.key}.json", text)
    members.update((extension, "json"))
    return _Written(file.key, start, stop, info.width * info.height)


def _runs(shard: str, tar: TarWriter, written: list[_Written]) -> list[Run]:
    runs: list[Run] = []
    group: list[_Written] = []
    for sample in [*written, None]:
        full = len(group) == RUN_SAMPLES or (group and sample and sample.stop - group[0].start > RUN_BYTES)
        if group and (full or sample is None):
            start, stop = group[0].start, group[-1].stop
            runs.append(
                Run(
                    shard=shard,
                    start=start,
                    stop=stop,
                    samples=len(group),
                    pixels=sum(item.pixels for item in group),
                    first_key=group[0].key,
                    last_key=group[-1].key,
                    sha256=hashlib.sha256(tar.piece(start, stop)).hexdigest(),
                )
            )
            group = []
        if sample is not None:
            group.append(sample)
    return runs
