"""Small datasets whose samples can be told apart by their pixels; for the tests of reading."""

import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.datasets.chunk import ChunkLimits
from pipelines.datasets.chunking import chunk_table
from pipelines.datasets.opening import open_dataset
from pipelines.datasets.tar import TarWriter
from pipelines.storage.store import open_store
from pipelines.streaming.augmentation import Augmentation
from pipelines.streaming.epoch_order import OrderConfig
from pipelines.streaming.stream import StreamConfig

__all__ = [
    "flat",
    "gradient",
    "noise",
    "paired_dataset",
    "saved",
    "single_dataset",
    "smooth",
    "stream_config",
    "tar_of",
]


def saved(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image's file."""
    data = io.BytesIO()
    image.save(data, image_format, **options)
    return data.getvalue()


def tar_of(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A shard of these members."""
    tar = TarWriter()
    for name, data in members:
        tar.add(name, data)
    return tar.finish()


def digests(uri: str | Path, *folders: str) -> dict[str, str]:
    """SHA-256 of every file of a store that is not hidden, or of those in some of its folders."""
    store = open_store(str(uri))
    names = [entry.name for entry in store.list() if not folders or entry.name.startswith(folders)]
    return {name: hashlib.sha256(store.read(name)).hexdigest() for name in names}


def write_crops(folder: Path, photos: Path, count: int) -> None:
    """Crops of real photographs and, among them, a truncated one and an empty file."""
    rng = np.random.default_rng(0)
    sources = [Image.open(path).convert("RGB") for path in sorted(photos.iterdir())]
    for number in range(count - 2):
        source = sources[number % len(sources)]
        left, top = rng.integers(0, source.width - 96), rng.integers(0, source.height - 64)
        source.crop((left, top, left + 96, top + 64)).save(folder / f"{number:04d}.jpg", quality=90)
    (folder / "cut.jpg").write_bytes((folder / "0000.jpg").read_bytes()[:900])
    (folder / "empty.jpg").write_bytes(b"")


def noise(seed: int, width: int, height: int) -> Any:
    """An image of its own, in which no pixel is like another: ``[height, width, 3]`` uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(seed: int, size: tuple[int, int], coarse: tuple[int, int] = (5, 5)) -> Image.Image:
    """A smooth image of its own."""
    return Image.fromarray(noise(seed, *coarse)).resize(size, Image.Resampling.BICUBIC)


def flat(number: int, size: tuple[int, int] = (20, 16), image_format: str = "PNG") -> bytes:
    """A picture of one colour, which is its number."""
    return saved(Image.new("RGB", size, (number % 256, 255 - number % 256, number // 256)), image_format)


def single_dataset(folder: Path, samples: int, *, per_shard: int = 10, bad: frozenset[int] = frozenset()) -> str:
    """Shards of flat pictures with captions; the bad ones are no pictures."""
    folder.mkdir(parents=True)
    for first in range(0, samples, per_shard):
        members = []
        for number in range(first, min(samples, first + per_shard)):
            members.append((f"{number:05d}.png", b"no picture" if number in bad else flat(number)))
            facts = json.dumps({"caption": f"number {number}", "number": number})
            members.append((f"{number:05d}.json", facts.encode()))
        (folder / f"train-{first // per_shard:06d}.tar").write_bytes(tar_of(members))
    return str(folder)


def gradient(number: int, size: tuple[int, int]) -> Image.Image:
    """A picture in which every pixel tells where it is: red across, green down, blue its number."""
    width, height = size
    image = Image.new("RGB", size)
    image.putdata([(x * 4 % 256, y * 4 % 256, number) for y in range(height) for x in range(width)])
    return image


def paired_dataset(folder: Path, samples: int, *, size: tuple[int, int] = (48, 40), per_shard: int = 10) -> str:
    """Shards of pairs: a gradient and the same one with red and green inverted."""
    folder.mkdir(parents=True)
    for first in range(0, samples, per_shard):
        members = []
        for number in range(first, min(samples, first + per_shard)):
            left = gradient(number, size)
            red, green, blue = left.split()
            right = Image.merge("RGB", [red.point(lambda v: 255 - v), green.point(lambda v: 255 - v), blue])
            members += [(f"{number:05d}.input.png", saved(left)), (f"{number:05d}.target.png", saved(right))]
        (folder / f"train-{first // per_shard:06d}.tar").write_bytes(tar_of(members))
    return str(folder)


def stream_config(uri: str | Path, order: OrderConfig, augmentation: Augmentation, **values: Any) -> StreamConfig:
    """The stream of a dataset in chunks of ``samples``, 16 where nothing is said."""
    dataset = open_dataset(str(uri))
    limits = ChunkLimits(samples=values.pop("samples", 16))
    given = {"store": dataset.store, "chunks": chunk_table(dataset.table(), limits), "digest": dataset.manifest.digest}
    return StreamConfig(order=order, augmentation=augmentation, **given | values)
