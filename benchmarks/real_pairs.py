"""The papers' own examples on their real sets: numbers beside trivial answers, and sheets of held-out images.

    condgen shard facades/train OUT/facades --side-by-side right --dedup near
    condgen shard facades/val OUT/facades-held-out --side-by-side right --split test=1
    condgen train --preset pix2pix-facades --data OUT/facades --out OUT/runs/facades
    python benchmarks/real_pairs.py facades OUT OUT/runs/facades [--sheet facades.jpg]

    condgen shard photographs OUT/photo2monet --unpaired monet --split train=0.9,test=0.1 --dedup near
    condgen train --preset cyclegan-monet --data OUT/photo2monet/a --data-b OUT/photo2monet/b --out OUT/runs/monet
    python benchmarks/real_pairs.py monet OUT OUT/runs/monet [--sheet monet.jpg] [--photographs FOLDER]

Several runs of facades are rows of one table and columns of one sheet. A low error alone rewards blur, so texture is
told too: the total variation of what was made over that of the truth. Sets are compared by the kernel distance between
features of MobileNetV2 (``condgen.metrics.sets``), which has no bias in small sets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from real_data import PART, Members, at_size, samples
from torch import Tensor

from condgen.base import Condition, ConditionalModel, SampleOptions
from condgen.color.lab import rgb_to_lab
from condgen.metrics import colorfulness, psnr, ssim, total_variation
from condgen.metrics.sets import kernel_distance
from condgen.noise import NoiseSource, SampleId
from jobs.chapter.training import grid
from pipelines.evaluation.features import load_extractor
from pipelines.models.pretrained_weights import read_weights, require_mobilenet_v2
from pipelines.models.source import open_model

PAIR: Members = ("input", "target")
ALONE: Members = (None, None)
SHOWN = 24
SHOWN_OF_RUNS = 6
SHEET_QUALITY = 85
LABEL_COLORS = (
    (0, 0, 222),
    (0, 48, 255),
    (0, 127, 255),
    (0, 206, 255),
    (36, 250, 224),
    (116, 255, 140),
    (192, 255, 64),
    (255, 238, 0),
    (255, 159, 0),
    (255, 81, 0),
    (255, 0, 0),
    (170, 0, 0),
)
"""Of the twelve classes of CMP Facades, in sRGB; the label maps are JPEGs, so colors lie around these."""

Features = Callable[[Tensor], NDArray[np.float32]]


@torch.inference_mode()
def answers(model: ConditionalModel, x: Tensor, keys: list[str], direction: str = "a2b") -> Tensor:
    """Return one draw (of models without noise, the answer) for each x.

    Args:
        model: in ``eval()`` mode.
        x: ``[B, 3, S, S]`` in [-1, 1].
        keys: of the samples, from which the noise comes.
        direction: of an unpaired model.

    Returns:
        ``[B, 3, S, S]`` in [-1, 1].
    """
    mode = "draw" if model.is_stochastic else "point"
    parts = []
    for start in range(0, len(x), PART):
        noise = NoiseSource(0, [SampleId("held-out", key) for key in keys[start : start + PART]], [0])
        options = SampleOptions(mode=mode, direction=direction)
        parts.append(model.sample(Condition(image=x[start : start + PART]), noise, options)[:, 0])
    return torch.cat(parts).clamp(-1, 1)


def features_of(images: Tensor, extractor: Features) -> NDArray[np.float32]:
    """Return the features ``[B, D]`` of images ``[B, 3, S, S]`` in [-1, 1]."""
    codes = ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
    return np.concatenate([extractor(part) for part in codes.split(PART)])


def texture(images: Tensor, truth: Tensor) -> float:
    """Return the total variation of images over that of true ones; 1 is right, and blur is below it."""
    return float(total_variation(images).mean() / total_variation(truth).mean())


# ---- facades ---------------------------------------------------------------------------------------------------------


def classes_of(labels: Tensor) -> Tensor:
    """Return the class whose color is nearest in each pixel of label maps ``[B, 3, S, S]``: ``[B, S, S]`` int64."""
    colors = torch.tensor(LABEL_COLORS, dtype=torch.float32) / 127.5 - 1
    return torch.cdist(labels.movedim(1, -1).flatten(1, 2), colors).argmin(dim=-1).view(-1, *labels.shape[-2:])


def means_by_class(images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean color of each class in each image, ``[B, N, 3]``, and its pixels, ``[B, N]``.

    Args:
        images: ``[B, 3, S, S]``.
        classes: ``[B, S, S]`` int64.
    """
    one_hot = torch.nn.functional.one_hot(classes.flatten(1), len(LABEL_COLORS)).float()
    pixels = one_hot.sum(dim=1)
    return torch.einsum("bpn,bcp->bnc", one_hot, images.flatten(2)) / pixels.clamp_min(1)[..., None], pixels


def region_error(images: Tensor, truth: Tensor, classes: Tensor) -> float:
    """Return the mean absolute difference of a class's mean color in an image from its true one, by pixels."""
    found, pixels = means_by_class(images, classes)
    wanted, _ = means_by_class(truth, classes)
    return float(((found - wanted).abs().mean(dim=-1) * pixels).sum() / pixels.sum())


def trivial_facades(x: Tensor, y: Tensor, train_x: Tensor, train_y: Tensor) -> dict[str, Tensor]:
    """Return the answers that need no network, each ``[B, 3, S, S]``.

    Args:
        x, y: held-out label maps and photographs, ``[B, 3, S, S]`` in [-1, 1].
        train_x, train_y: those of training.
    """
    means, pixels = means_by_class(train_y, classes_of(train_x))
    colors = (means * pixels[..., None]).sum(dim=0) / pixels.sum(dim=0).clamp_min(1)[:, None]
    return {
        "the best constant color": y.movedim(1, 0).flatten(1).median(dim=1).values[:, None, None].expand_as(y),
        "the mean photograph": train_y.mean(dim=0).expand_as(y),
        "each label's mean color": colors[classes_of(x)].movedim(-1, 1),
        "the label map": x,
        "a training photograph": torch.stack(evenly(list(train_y), len(y))),
    }


def facade_numbers(made: Tensor, x: Tensor, truth: Tensor, extractor: Features) -> dict[str, float]:
    """Return the columns of the table of facades, of images ``[B, 3, S, S]`` in [-1, 1]."""
    unit, true_unit = (made + 1) / 2, (truth + 1) / 2
    return {
        "mean absolute error": float((made - truth).abs().mean()),
        "PSNR": float(psnr(unit, true_unit).mean()),
        "SSIM": float(ssim(unit, true_unit).mean()),
        "region's color": region_error(made, truth, classes_of(x)),
        "texture": texture(made, truth),
        "kernel distance": kernel_distance(features_of(made, extractor), features_of(truth, extractor)),
    }


def measure_facades(out: Path, runs: list[Path], sheet: Path | None, extractor: Features) -> None:
    """Print a table of runs and trivial answers on held-out pairs, and draw a sheet."""
    loaded = {run.name: open_model(str(run)).load() for run in runs}
    size_px = int(next(iter(loaded.values())).extra["size_px"])
    held_out = samples(out / "facades-held-out", PAIR, None)
    known = samples(out / "facades", PAIR, None, "train")
    x, y, train_x, train_y = (at_size([getattr(s, n) for s in one], size_px) for one in (held_out, known) for n in "xy")
    keys = [one.key for one in held_out]
    made = {name: answers(one.model.eval(), x, keys) for name, one in loaded.items()}
    rows = made | trivial_facades(x, y, train_x, train_y)
    print_table({name: facade_numbers(images, x, y, extractor) for name, images in rows.items()})
    print(f"\n{len(x)} held-out pairs at {size_px} px, images in [-1, 1]")
    if sheet is not None and len(made) == 1:
        save_sheet([list(row) for row in zip(x, y, next(iter(made.values())), strict=True)], sheet, SHOWN, across=4)
    elif sheet is not None:
        save_sheet([list(row) for row in zip(x, y, *made.values(), strict=True)], sheet, SHOWN_OF_RUNS, across=1)


# ---- Monet -----------------------------------------------------------------------------------------------------------


def lightness_correlation(first: Tensor, second: Tensor) -> float:
    """Return the mean over images of the correlation of their L: how much of the content was kept."""
    light = [rgb_to_lab((one + 1) / 2)[:, 0].flatten(1) for one in (first, second)]
    a, b = (one - one.mean(dim=1, keepdim=True) for one in light)
    return float(torch.nn.functional.cosine_similarity(a, b, dim=1).mean())


def domain_numbers(made: Tensor, x: Tensor | None, domain: Tensor, extractor: Features) -> dict[str, float]:
    """Return how much images are like a domain's, and like what they were made of.

    Args:
        made: ``[B, 3, S, S]`` in [-1, 1].
        x: what they were made of, or None.
        domain: the training images of the domain.
        extractor: of features.
    """
    colors = [colorfulness((one + 1) * 127.5).mean() for one in (made, domain)]
    numbers = {
        "kernel distance": kernel_distance(features_of(made, extractor), features_of(domain, extractor)),
        "texture": texture(made, domain),
        "colorfulness": float(colors[0] / colors[1]),
    }
    if x is not None:
        numbers |= {"change": float((made - x).abs().mean()), "L's correlation": lightness_correlation(made, x)}
    return numbers


def measure_monet(out: Path, runs: list[Path], sheet: Path | None, extractor: Features, shown: Path | None) -> None:
    """Print how both directions do beside the images as they are, and draw a sheet.

    Args:
        out: the folder of the datasets.
        runs: each has its own table.
        sheet: held-out images of both domains and what is made of them; None for no sheet.
        extractor: of features.
        shown: photographs of which the sheet is drawn in place of the held-out ones.
    """
    for run in runs:
        loaded = open_model(str(run)).load()
        model, size_px = loaded.model.eval(), int(loaded.extra["size_px"])
        held_out = {name: samples(out / "photo2monet" / name, ALONE, None) for name in "ab"}
        sheets: list[list[Tensor]] = []
        for name, other, there, back in (("a", "b", "a2b", "b2a"), ("b", "a", "b2a", "a2b")):
            x, target = (at_size([one.y for one in held_out[n]], size_px) for n in (name, other))
            domain = at_size([one.y for one in samples(out / "photo2monet" / other, ALONE, None, "train")], size_px)
            keys = [one.key for one in held_out[name]]
            made = answers(model, x, keys, there)
            returned = answers(model, made, keys, back)
            rows = {
                f"{run.name}, {there}": domain_numbers(made, x, domain, extractor)
                | {"cycle error": float((returned - x).abs().mean())},
                "the images as they are": domain_numbers(x, x, domain, extractor),
                "true held-out ones": domain_numbers(target, None, domain, extractor),
            }
            print_table(rows)
            print(f"\n{len(x)} held-out images, against {len(domain)} of the other domain\n")
            if name == "a" and shown is not None:
                x = at_size([np.asarray(Image.open(path).convert("RGB")) for path in sorted(shown.iterdir())], size_px)
                made = answers(model, x, [path.name for path in sorted(shown.iterdir())], there)
            sheets += evenly([[one, new] for one, new in zip(x, made, strict=True)], SHOWN)
        if sheet is not None:
            save_sheet(sheets, sheet, len(sheets), across=6)


# ---- what both print and draw ----------------------------------------------------------------------------------------


def print_table(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print rows of numbers by name as a Markdown table; a number that a row has not is left out."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    print("| | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[c]:.3f}" if c in row else "" for c in columns) + " |", flush=True)


def evenly(rows: list[Any], most: int) -> list[Any]:
    """Return at most so many of the rows, taken evenly."""
    return rows[:: max(1, len(rows) // most)][:most]


def save_sheet(rows: list[list[Tensor]], path: Path, most: int, *, across: int) -> None:
    """Write images ``[3, S, S]`` in [-1, 1] as one file: ``across`` of the rows side by side in each of its lines."""
    few = evenly(rows, most)
    lines = [list(chain.from_iterable(few[start : start + across])) for start in range(0, len(few), across)]
    sheet = grid([[(one + 1) / 2 for one in line] for line in lines], scale=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray((sheet.permute(1, 2, 0) * 255).round().byte().numpy())
    image.save(path, optimize=True, quality=SHEET_QUALITY)


def main() -> None:
    """Measure runs, and draw sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("facades", "monet"))
    parser.add_argument("out", type=Path, help="the folder of the datasets")
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--sheet", type=Path, help="a JPEG or PNG to write")
    parser.add_argument("--photographs", type=Path, help="a folder: images that the sheet of monet shows as x")
    parser.add_argument("--weights", type=Path, help="of MobileNetV2, where they are not installed")
    options = parser.parse_args()
    extractor = load_extractor(read_weights(require_mobilenet_v2(options.weights)))
    if options.kind == "facades":
        measure_facades(options.out, options.runs, options.sheet, extractor)
    else:
        measure_monet(options.out, options.runs, options.sheet, extractor, options.photographs)


if __name__ == "__main__":
    sys.exit(main())
