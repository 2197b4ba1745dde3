"""A corpus for benchmarks: 256 px JPEGs cut from the real photographs of installed packages (the extra `demo`).

Random crops of 45 to 100 % of the short side, mirrored at random, quality 80 to 95; the same count and seed give the
same files. Of more than 6,000 the rest are the same again, under names of their own. `CONDGEN_PHOTOS` may name a folder
with more photographs to cut from. Beside them, a model with its first weights.
"""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["make_corpus", "photographs", "save_model"]

PACKAGED = {
    "skimage": ["data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg", "data/retina.jpg"],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}
_PART = 500
_DISTINCT = 6000


def photographs() -> list[Path]:
    """The photographs to cut from."""
    found: list[Path] = []
    for package, names in PACKAGED.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            found += [Path(spec.submodule_search_locations[0]) / name for name in names]
    extra = os.environ.get("CONDGEN_PHOTOS")
    if extra:
        found += sorted(path for path in Path(extra).iterdir() if path.suffix == ".jpg")
    if not found:
        raise SystemExit("no photographs: install the extra `demo`, or name a folder of them in CONDGEN_PHOTOS")
    return found


def _cut(folder: Path, sources: list[Path], first: int, stop: int, size_px: int) -> None:
    rng = np.random.default_rng([first, size_px])
    pictures = [Image.open(path).convert("RGB") for path in sources]
    for number in range(first, stop):
        picture = pictures[int(rng.integers(len(pictures)))]
        side = int(min(picture.size) * rng.uniform(0.45, 1.0))
        left, top = rng.integers(0, picture.width - side + 1), rng.integers(0, picture.height - side + 1)
        crop = picture.crop((left, top, left + side, top + side)).resize((size_px, size_px), Image.Resampling.LANCZOS)
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop.save(folder / f"{number:07d}.jpg", quality=int(rng.integers(80, 96)))


def make_corpus(folder: Path, count: int, size_px: int = 256) -> Path:
    """Make `count` JPEGs of `size_px` in `folder`, or find them there."""
    marker = folder / ".complete"
    if marker.exists() and marker.read_text() == f"{count} {size_px}":
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    sources = photographs()
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        parts = [(at, min(at + _PART, count, _DISTINCT)) for at in range(0, min(count, _DISTINCT), _PART)]
        for future in [pool.submit(_cut, folder, sources, first, stop, size_px) for first, stop in parts]:
            future.result()
    for number in range(_DISTINCT, count):
        (folder / f"{number:07d}.jpg").hardlink_to(folder / f"{number % _DISTINCT:07d}.jpg")
    marker.write_text(f"{count} {size_px}")
    return folder


def save_model(folder: Path, preset_name: str) -> Path:
    """The preset's model with its first weights: how long it takes does not depend on what it learned."""
    import torch

    from condgen import checkpoint
    from condgen.families import FAMILIES
    from condgen.presets import find_preset

    preset = find_preset(preset_name)
    torch.manual_seed(0)
    model = FAMILIES[preset.family].model_class(preset.model)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in checkpoint.dump(model, {"size_px": preset.data.size_px}).items():
        (folder / name).write_bytes(data)
    return folder
