"""Real sets from package registries: made into datasets, and what a preset's run makes of their held-out pictures.

    python benchmarks/real_data.py make OUT [--openmoji FOLDER]       # OUT/pairs, OUT/domains, 64 px
    condgen train --preset pix2pix-emoji --data OUT/pairs --out OUT/runs/pix2pix-emoji
    condgen train --preset cyclegan-emoji --data OUT/domains/a --data-b OUT/domains/b --out OUT/runs/cyclegan-emoji
    condgen train --preset diffusion-names --data OUT/pairs --member image=target --out OUT/runs/diffusion-names
    python benchmarks/real_data.py measure OUT/pairs OUT/runs/* [--sheets FOLDER]

OpenMoji 17.0.0 (npm: `npm pack openmoji@17.0.0`, CC-BY-SA-4.0: say "OpenMoji" and the licence where you show it) has
4,495 emoji as a black outline and in colour on one canvas. Flags are left out (their outlines are rectangles), and
variants of skin tone. `resvg-py` draws them: `pip install resvg-py`. A tenth is held out, by a hash of the name. The
two domains are outlines of one half of the training pictures and colours of the other half: no picture has its partner.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import jobs.shard
from condgen.base import Condition, ConditionalModel, SampleOptions
from condgen.noise import NoiseSource, SampleId
from jobs.feeds import picture
from pipelines.chunks import ChunkLimits, image_member, iter_chunks, read_chunk, sample_facts
from pipelines.datasets import load_dataset
from pipelines.images import decode
from pipelines.models import open_model
from pipelines.planning import chunk_table
from pipelines.sharding import ShardOptions

PACKAGE = "openmoji@17.0.0"
SIZE_PX = 64
DRAWS = 4
SHOWN = 6
WHITE = 0.1
"""A pixel is white where no channel is further than this from 1,"""
BLACK = -0.4
"""and black where none is above this."""
CPU = torch.device("cpu")


def download(folder: Path) -> Path:
    """Fetch the package by npm, and return the folder that it is unpacked in."""
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


def half_of(name: str) -> str:
    """Which domain a training picture is in: a (its outline) or b (its colours)."""
    return "ab"[hashlib.sha256(name.encode()).digest()[0] % 2]


def make(out: Path, package: Path | None) -> None:
    """Draw the pictures and make the datasets."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise SystemExit("resvg-py is not installed: pip install resvg-py") from error
    with tempfile.TemporaryDirectory() as work:
        package = package or download(Path(work) / "openmoji")
        rows = list(chosen(package))
        groups = sorted({row["group"] for row in rows})
        pictures = Path(work) / "pictures"
        for kind in ("black", "color"):
            (pictures / kind).mkdir(parents=True)
        lines = []
        for row in rows:
            names = {}
            for kind in ("black", "color"):
                svg = package / kind / "svg" / f"{row['hexcode']}.svg"
                path = pictures / kind / f"{row['hexcode']}.png"
                path.write_bytes(bytes(svg_to_bytes(svg_path=str(svg), background="white", width=SIZE_PX)))
                names[kind] = str(path.relative_to(pictures))
            caption = f"{row['annotation']}, {row['subgroups'].replace('-', ' ')}"
            facts = {"key": row["hexcode"], "caption": caption, "label": groups.index(row["group"])}
            lines.append(json.dumps({"input": names["black"], "target": names["color"], **facts}))
        table = pictures / "emoji.jsonl"
        table.write_text("\n".join(lines) + "\n")
        options = ShardOptions(split={"train": 0.9, "test": 0.1})
        jobs.shard.run(str(table), str(out / "pairs"), options=options)
        held_out = {sample.key for sample in samples(out / "pairs")}
        for kind, domain in (("black", "a"), ("color", "b")):
            for path in (pictures / kind).iterdir():
                if path.stem in held_out or half_of(path.stem) != domain:
                    path.unlink()
        jobs.shard.run_unpaired(str(pictures / "black"), str(pictures / "color"), str(out / "domains"))
    print(f"{len(rows)} emoji, {len(held_out)} of them held out; OpenMoji, CC-BY-SA-4.0")


@dataclass(frozen=True)
class Sample:
    """A held-out emoji: outline and colours, ``[64, 64, 3]`` uint8, and its name."""

    key: str
    outline: Any
    colour: Any
    caption: str


def samples(data: Path, most: int = 10_000) -> list[Sample]:
    """The held-out pairs of a dataset."""
    dataset = load_dataset(str(data))
    found = []
    for chunk in iter_chunks(chunk_table(dataset.table("test"), ChunkLimits())):
        for one in read_chunk(dataset.store, chunk, dataset.manifest.member_names):
            x, y = (decode(image_member(one, member)) for member in ("input", "target"))
            found.append(Sample(one.key, x, y, str(sample_facts(one).get("caption", ""))))
    return found[:most]


def drawn(model: ConditionalModel, held_out: list[Sample], size_px: int) -> torch.Tensor:
    """K draws of each sample, ``[B, K, 3, S, S]`` in [-1, 1]."""
    draws = DRAWS if model.is_stochastic else 1
    made = []
    for start in range(0, len(held_out), 16):
        part = held_out[start : start + 16]
        channels = model.config.condition_channels
        if channels:
            condition = Condition(image=at_size([one.outline for one in part], size_px, channels))
        else:
            from condgen.tokens import tokenize

            size = {"vocabulary": model.config.text_vocabulary, "length": model.config.text_length}
            words = np.stack([tokenize(one.caption, **size) for one in part])
            condition = Condition(text=torch.from_numpy(words))
        noise = NoiseSource(0, [SampleId("emoji", one.key) for one in part], range(draws))
        with torch.inference_mode():
            made.append(model.sample(condition, noise, SampleOptions(mode="draw" if model.is_stochastic else "point")))
    return torch.cat(made).clamp(-1, 1)


def at_size(pictures: list[Any], size_px: int, channels: int = 3) -> torch.Tensor:
    """Pictures as ``[B, channels, S, S]`` in [-1, 1]."""
    resized = [np.asarray(Image.fromarray(one).resize((size_px, size_px), Image.Resampling.BOX)) for one in pictures]
    return picture(np.stack(resized), channels, CPU)


def coloured_distance(made: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
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


def coloured(truth: torch.Tensor) -> torch.Tensor:
    """Where a truth ``[B, 3, S, S]`` has a colour, neither white paper nor black lines: ``[B, S, S]`` float32."""
    return ((truth.amin(dim=1) < 1 - WHITE) & (truth.amax(dim=1) > BLACK)).float()


def numbers_of(made: torch.Tensor, truth: torch.Tensor, outline: torch.Tensor) -> dict[str, float]:
    """The columns of the table, of draws ``[B, K, 3, S, S]``, their truths and their outlines ``[B, 3, S, S]``.

    All is measured where the sample's own truth has a colour, so that a shape alone tells nothing.
    """
    mask, other = coloured(truth), truth.roll(1, 0)
    far, far_other = coloured_distance(made, truth, mask), coloured_distance(made, other, mask)
    plain, plain_other = (coloured_distance(outline[:, None], one, mask) for one in (truth, other))
    apart = [coloured_distance(made[:, i : i + 1], made[:, i - 1], mask).mean() for i in range(1, made.shape[1])]
    return {
        "draws": float(far.mean()),
        "outline": float(plain.mean()),
        "another emoji": float(coloured_distance(other[:, None], truth, mask).mean()),
        "nearest of K": float(far.amin(dim=1).mean()),
        "own": float((far < far_other).float().mean()),
        "the outline's own": float((plain < plain_other).float().mean()),
        "between draws": float(torch.stack(apart).mean()) if apart else 0.0,
    }


def measure(data: Path, runs: list[Path], sheets: Path | None, most: int) -> None:
    """Print how far draws are from the truth, beside the outline and another picture's colours; and draw some."""
    held_out = samples(data, most)
    print("| preset | steps | draws | outline | another emoji | nearest of K | own | outline's own | between draws |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for run in runs:
        loaded = open_model(str(run)).load()
        size_px = loaded.extra["size_px"]
        made = drawn(loaded.model.eval(), held_out, size_px)
        truth = at_size([one.colour for one in held_out], size_px)
        outline = at_size([one.outline for one in held_out], size_px)
        cells = " | ".join(f"{value:.3f}" for value in numbers_of(made, truth, outline).values())
        print(f"| {loaded.extra['preset']} | {loaded.extra['step']} | {cells} |", flush=True)
        if sheets:
            rows = [[x, y, *draws] for x, y, draws in zip(outline[:SHOWN], truth[:SHOWN], made[:SHOWN], strict=True)]
            draw_sheet(rows, sheets / f"{loaded.extra['preset']}.png")
    print(f"\n{len(held_out)} held-out pairs, {DRAWS} draws; mean absolute difference from the truth, in [-1, 1],")
    print("where it has a colour: of draws, of the outline, of another emoji's colours; the shares of draws, and of")
    print("outlines, that are nearer to the truth than to that one")


def draw_sheet(rows: list[list[torch.Tensor]], path: Path) -> None:
    """A PNG with a row for each sample: outline, truth, draws."""
    from jobs.chapter.training import grid

    path.parent.mkdir(parents=True, exist_ok=True)
    shown = grid([[(one + 1) / 2 for one in row] for row in rows], scale=1 if rows[0][0].shape[-1] >= 64 else 2)
    Image.fromarray((shown.permute(1, 2, 0) * 255).round().byte().numpy()).save(path, optimize=True)


def main() -> None:
    """Make the datasets, or measure runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("make", help="datasets")
    made.add_argument("out", type=Path)
    made.add_argument("--openmoji", type=Path, help="the package's folder, where npm is not to fetch it")
    measured = commands.add_parser("measure", help="runs on held-out pictures")
    measured.add_argument("data", type=Path)
    measured.add_argument("runs", type=Path, nargs="+")
    measured.add_argument("--sheets", type=Path, help="a folder for a picture of each run")
    measured.add_argument("--most", type=int, default=200)
    given = parser.parse_args()
    if given.command == "make":
        make(given.out, given.openmoji)
    else:
        measure(given.data, given.runs, given.sheets, given.most)


if __name__ == "__main__":
    sys.exit(main())
