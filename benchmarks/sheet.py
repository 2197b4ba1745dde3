"""A sheet of colorized photographs as one PNG or JPEG: grey, the original, the point prediction, the draws; a row each.

    condgen colorize photos/ draws/ --draws 4 && condgen colorize photos/ point/ --point
    benchmarks/sheet.py draws/ sheet.jpg --point point/ --count 48

The photographs are those of the results' own archive, spread evenly over it, or the ``--keys`` that are named.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image, ImageOps

_GAP_PX = 4


def stored(results: Path) -> dict[str, list[Image.Image]]:
    """Return the draws of each key of a local results folder, in their order."""
    found: dict[str, list[Image.Image]] = {}
    for path in sorted((results / "draws").glob("*.parquet")):
        for row in pq.read_table(path, columns=["key", "draw", "image"]).to_pylist():
            found.setdefault(row["key"], []).append(Image.open(io.BytesIO(row["image"]["bytes"])))
    return found


def originals(archive: Path, keys: list[str]) -> dict[str, Image.Image]:
    """Return the archive's own images of keys, turned as they are to be seen."""
    found = {}
    for path in archive.rglob("*"):
        key = path.relative_to(archive).with_suffix("").as_posix()
        if key in keys and path.is_file():
            found[key] = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return found


def chosen(keys: list[str], count: int) -> list[str]:
    """Return ``count`` of sorted keys, spread evenly."""
    ordered, count = sorted(keys), min(count, len(keys))
    return [ordered[i * len(ordered) // count] for i in range(count)]


def rows(arguments: argparse.Namespace) -> Iterator[list[Image.Image]]:
    """Return the images of each row."""
    draws = stored(arguments.draws)
    points = stored(arguments.point) if arguments.point else {}
    keys = arguments.keys or chosen(list(draws), arguments.count)
    true = originals(arguments.archive, keys) if arguments.archive else {}
    for key in keys:
        first = true.get(key, draws[key][0])
        parts = [ImageOps.grayscale(first).convert("RGB")]
        parts += [true[key]] if arguments.archive and not arguments.no_original else []
        yield [*parts, *points.get(key, []), *draws[key][: arguments.most]]


def cell(image: Image.Image, height_px: int, width_px: int) -> Image.Image:
    """Return the middle of an image that fills a cell."""
    return ImageOps.fit(image.convert("RGB"), (width_px, height_px), Image.Resampling.LANCZOS)


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("draws", type=Path, help="results of condgen colorize")
    parser.add_argument("out", type=Path, help="the sheet")
    parser.add_argument("--point", type=Path, help="results of condgen colorize --point on the same archive")
    parser.add_argument("--archive", type=Path, help="the folder that was colorized, for the originals")
    parser.add_argument("--no-original", action="store_true", help="of images that were never in color")
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--most", type=int, default=4, help="draws of each")
    parser.add_argument("--keys", nargs="*", help="these alone, in this order")
    parser.add_argument("--side-px", type=int, default=128, help="height of a cell")
    parser.add_argument("--columns", type=int, default=2, help="photographs side by side")
    arguments = parser.parse_args()
    made = list(rows(arguments))
    height = arguments.side_px
    width = height * 5 // 4
    across = max(map(len, made))
    group = across * width + _GAP_PX * 3
    lines = -(-len(made) // arguments.columns)
    sheet = Image.new("RGB", (arguments.columns * group, lines * (height + _GAP_PX)), (255, 255, 255))
    for number, images in enumerate(made):
        top, left = number // arguments.columns * (height + _GAP_PX), number % arguments.columns * group
        for place, image in enumerate(images):
            sheet.paste(cell(image, height, width - _GAP_PX), (left + place * width, top))
    sheet.save(arguments.out, quality=88)
    print(f"{arguments.out}: {len(made)} photographs, {sheet.width} x {sheet.height}")


if __name__ == "__main__":
    main()
