"""Tasks beyond colour on generated worlds: their pairs made into datasets, and what a preset's run makes of new ones.

    python benchmarks/tasks.py make OUT                  # OUT/edges, frames, labels, depth: datasets of pairs
    condgen train --preset diffusion-edges --data OUT/edges --out OUT/runs/diffusion-edges
    python benchmarks/tasks.py measure OUT/runs/* [--sheets FOLDER]

Each task's own number, beside that of an answer that looks at nothing. New samples are of the same worlds, by another
seed. Pairs are made as the sets of Isola et al. 2017 come: one image, the target on the left, the input on the right.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from PIL import Image
from torch import Tensor

import jobs.datasets.shard
from condgen.base import Condition, SampleOptions
from condgen.noise import NoiseSource, SampleId
from condgen.worlds.ball import ball_errors, draw_balls
from condgen.worlds.facades import CLASSES, draw_facades, edges
from jobs.chapter.training import grid
from pipelines.models.source import open_model
from pipelines.sharding.options import ShardOptions, SourceOptions

COUNT = 2000
HELD_OUT = 96
DRAWS = 3
TRAIN_SEED, TEST_SEED = 1, 2

Pair = tuple[Tensor, Tensor]


def label_levels(labels: Tensor) -> Tensor:
    """Class indices ``[B, H, W]`` as even levels, ``[B, 1, H, W]`` float32 in [-1, 1]."""
    return labels[:, None].float() * (2 / (len(CLASSES) - 1)) - 1


def classes_of(levels: Tensor) -> Tensor:
    """The nearest class of levels ``[..., 1, H, W]``, ``[..., H, W]`` int64."""
    return ((levels + 1) * ((len(CLASSES) - 1) / 2)).round().long().squeeze(-3)


def _edges(count: int, seed: int) -> Pair:
    photo = draw_facades(count, torch.Generator().manual_seed(seed)).photo
    return edges(photo), photo


def _frames(count: int, seed: int) -> Pair:
    made = draw_balls(count, torch.Generator().manual_seed(seed))
    return made.frame, made.following


def _labels(count: int, seed: int) -> Pair:
    made = draw_facades(count, torch.Generator().manual_seed(seed))
    return made.photo, label_levels(made.labels)


def _depth(count: int, seed: int) -> Pair:
    made = draw_facades(count, torch.Generator().manual_seed(seed))
    return made.photo, made.depth


def _absolute(_x: Tensor, y: Tensor, made: Tensor) -> dict[str, float]:
    constant = y.median()
    return {
        "mean absolute error": float((made - y[:, None]).abs().mean()),
        "of the best constant": float((y - constant).abs().mean()),
    }


def _edge_agreement(_x: Tensor, y: Tensor, made: Tensor) -> dict[str, float]:
    def f1(photos: Tensor, wanted: Tensor) -> float:
        found = edges(photos) > 0
        both = (found & wanted).sum()
        return float(2 * both / (found.sum() + wanted.sum()))

    wanted = edges(y) > 0
    return {"F1 of the draws' edges": f1(made[:, 0], wanted), "of another photo's": f1(y.roll(1, 0), wanted)}


def _balls(_x: Tensor, y: Tensor, made: Tensor) -> dict[str, float]:
    apart = torch.stack([(made[:, 0] - made[:, k]).abs().mean() for k in range(1, made.shape[1])]).mean()
    return {
        "draws that are a ball": float((ball_errors(made.flatten(0, 1)) < 0.1).float().mean()),
        "between draws": float(apart),
        "between true next frames": float((y - y.roll(1, 0)).abs().mean()),
    }


def _label_agreement(_x: Tensor, y: Tensor, made: Tensor) -> dict[str, float]:
    found, truth = classes_of(made[:, 0]), classes_of(y)
    overlaps = []
    for index in range(len(CLASSES)):
        both, either = ((found == index) & (truth == index)).sum(), ((found == index) | (truth == index)).sum()
        overlaps.append(both / either.clamp_min(1))
    most = truth.flatten().mode().values
    return {
        "pixels right": float((found == truth).float().mean()),
        "mean IoU": float(torch.stack(overlaps).mean()),
        "pixels right of the commonest class": float((truth == most).float().mean()),
    }


@dataclass(frozen=True)
class Task:
    """A task: its pairs, and its numbers of (x, y, draws)."""

    preset: str
    pairs: Callable[[int, int], Pair]
    numbers: Callable[[Tensor, Tensor, Tensor], dict[str, float]]


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "edges": Task("diffusion-edges", _edges, _edge_agreement),
        "frames": Task("diffusion-frames", _frames, _balls),
        "labels": Task("classifier-labels", _labels, _label_agreement),
        "depth": Task("gaussian-depth", _depth, _absolute),
    }
)


def to_bytes(pictures: Tensor) -> Tensor:
    """``[B, C, H, W]`` in [-1, 1] to ``[B, H, W, 3]`` uint8; one channel is grey."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().expand(-1, 3, -1, -1).movedim(1, -1)


def make(out: Path, count: int) -> None:
    """Write each task's pairs side by side, and make the datasets."""
    for name, task in TASKS.items():
        x, y = (to_bytes(one) for one in task.pairs(count, TRAIN_SEED))
        with tempfile.TemporaryDirectory() as folder:
            for number, sides in enumerate(torch.cat([y, x], dim=2)):
                Image.fromarray(sides.numpy()).save(Path(folder) / f"{number:05d}.png")
            options = ShardOptions(split={"train": 1.0})
            jobs.datasets.shard.run(folder, str(out / name), reading=SourceOptions(input_half="right"), options=options)
        print(f"{name}: {count} pairs in {out / name}")


def measure(runs: list[Path], sheets: Path | None) -> None:
    """Print each run's numbers on new pairs, and draw some."""
    by_preset = {task.preset: task for task in TASKS.values()}
    for run in runs:
        loaded = open_model(str(run)).load()
        preset = loaded.extra["preset"]
        model, task = loaded.model.eval(), by_preset[preset]
        x, y = task.pairs(HELD_OUT, TEST_SEED)
        draws = DRAWS if model.is_stochastic and preset != "classifier-labels" else 1
        mode = "draw" if draws > 1 else "point"
        noise = NoiseSource(0, [SampleId("task", str(row)) for row in range(len(x))], range(draws))
        with torch.inference_mode():
            made = model.sample(Condition(image=x), noise, SampleOptions(mode=mode)).clamp(-1, 1)
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in task.numbers(x, y, made).items())
        print(f"{preset}, {loaded.extra['step']} steps: {numbers}", flush=True)
        if sheets:
            sheets.mkdir(parents=True, exist_ok=True)
            rows = [[(one.expand(3, -1, -1) + 1) / 2 for one in (x[i], y[i], *made[i])] for i in range(4)]
            shown = grid(rows, scale=1 if x.shape[-1] >= 64 else 3)
            picture = (shown.permute(1, 2, 0) * 255).round().byte().numpy()
            Image.fromarray(picture).save(sheets / f"{preset}.png", optimize=True)


def main() -> None:
    """Make the datasets, or measure runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("make", help="datasets")
    made.add_argument("out", type=Path)
    made.add_argument("--count", type=int, default=COUNT)
    measured = commands.add_parser("measure", help="runs on new pairs")
    measured.add_argument("runs", type=Path, nargs="+")
    measured.add_argument("--sheets", type=Path)
    given = parser.parse_args()
    if given.command == "make":
        make(given.out, given.count)
    else:
        measure(given.runs, given.sheets)


if __name__ == "__main__":
    sys.exit(main())
