"""Small datasets whose samples can be told apart by their pixels; for the tests of reading."""

import io
import json
from pathlib import Path

from PIL import Image

from pipelines.datasets.tar import TarWriter

__all__ = ["flat", "paired_dataset", "single_dataset"]


def flat(number: int, size: tuple[int, int] = (20, 16), image_format: str = "PNG") -> bytes:
    """A picture of one colour, which is its number."""
    data = io.BytesIO()
    Image.new("RGB", size, (number % 256, 255 - number % 256, number // 256)).save(data, image_format)
    return data.getvalue()


def single_dataset(folder: Path, samples: int, *, per_shard: int = 10, bad: frozenset[int] = frozenset()) -> str:
    """Shards of flat pictures with captions; the bad ones are no pictures."""
    folder.mkdir(parents=True)
    for first in range(0, samples, per_shard):
        tar = TarWriter()
        for number in range(first, min(samples, first + per_shard)):
            tar.add(f"{number:05d}.png", b"no picture" if number in bad else flat(number))
            tar.add(f"{number:05d}.json", json.dumps({"caption": f"number {number}", "number": number}).encode())
        (folder / f"train-{first // per_shard:06d}.tar").write_bytes(tar.finish())
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
        tar = TarWriter()
        for number in range(first, min(samples, first + per_shard)):
            left = gradient(number, size)
            red, green, blue = left.split()
            right = Image.merge("RGB", [red.point(lambda v: 255 - v), green.point(lambda v: 255 - v), blue])
            for member, image in (("input", left), ("target", right)):
                data = io.BytesIO()
                image.save(data, "PNG")
                tar.add(f"{number:05d}.{member}.png", data.getvalue())
        (folder / f"train-{first // per_shard:06d}.tar").write_bytes(tar.finish())
    return str(folder)
