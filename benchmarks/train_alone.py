r"""Train a color preset without Ray: one process, one GPU (or CPU), shards read by a DataLoader.

    python benchmarks/train_alone.py DATASET RUN --preset colorizer --init-from RUN0 --seconds 480 \
        --set train.batch_size=256 --set data.size_px=160

It takes the same presets, augmentation and training step as ``condgen train`` and writes the same model files, so that
either goes on from the other's weights (``--init-from``). Every minute it judges the averaged weights on the split
``val``, always with the same noise, and keeps the best in ``RUN/best``: a large GPU learns a small dataset by heart in
some minutes. A run is as long as ``--seconds``, and can't be continued. It needs torch, torchvision, numpy, pillow,
safetensors and lazy_loader alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.io import ImageReadMode, decode_jpeg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from condgen import checkpoint
from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.checkpoint_files import FILES
from condgen.color.lab import color_pair, denormalize_ab, rgb_to_lab
from condgen.families import find_family
from condgen.metrics.color import AB_CELLS, NUM_THRESHOLDS, ab_cells, ab_distance, auc_balanced, auc_raw, count_hits
from condgen.nn.encoders import pretrained
from condgen.noise import NoiseSource, SampleId
from condgen.precision import autocast, resolve
from condgen.preset_parts import DataConfig, Preset
from condgen.presets import find_preset
from condgen.statistics import DatasetStatistics
from condgen.training import Training, learning_rate
from pipelines.streaming.aging import Aging, draw_aging
from pipelines.streaming.augmentation import Augmentation, draw_crop

Key = tuple[int, int]


class Squares(Dataset[torch.Tensor]):
    """JPEGs of tars, held encoded in memory; an item is asked for by (epoch, number) and comes as a square."""

    def __init__(self, paths: Sequence[Path], data: DataConfig, seed: int) -> None:
        self.jpegs: list[bytes] = []
        for path in paths:
            with tarfile.open(path) as tar:
                members = (m for m in tar if m.name.endswith((".jpg", ".jpeg")))
                self.jpegs += [file.read() for m in members if (file := tar.extractfile(m)) is not None]
        self.data, self.seed = data, seed

    def __len__(self) -> int:
        return len(self.jpegs)

    def decoded(self, number: int) -> np.ndarray:
        """Return a photograph, ``[H, W, 3]`` uint8."""
        encoded = torch.frombuffer(bytearray(self.jpegs[number]), dtype=torch.uint8)
        rgb: np.ndarray = decode_jpeg(encoded, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()
        return rgb

    def __getitem__(self, key: Key) -> torch.Tensor:
        epoch, number = key
        data, named = self.data, {"source": "alone", "key": str(number)}
        augmentation = Augmentation(size_px=data.size_px, crop_scale_min=data.crop_scale_min, flip=data.flip)
        crop = draw_crop(augmentation, seed=self.seed, epoch=epoch, **named)
        square = np.zeros((data.size_px, data.size_px, 4), np.uint8)
        square[..., :3] = crop.apply(self.decoded(number), data.size_px)
        aging = Aging(share=data.aging_share)
        if data.aging_share and (aged := draw_aging(aging, seed=self.seed, epoch=epoch, **named)) is not None:
            square[..., 3] = aged.apply(np.ascontiguousarray(square[..., :3]))
        return torch.from_numpy(square)


class Epochs(Sampler[list[Key]]):
    """Shuffled batches, epoch after epoch, without end."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = 0
        while True:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
            for start in range(0, self.count - self.batch_size + 1, self.batch_size):
                yield [(epoch, int(number)) for number in order[start : start + self.batch_size]]
            epoch += 1


def first_model(squares: Squares, arguments: argparse.Namespace) -> ConditionalModel:
    """Return the model to begin with."""
    preset = arguments.preset
    torch.manual_seed(preset.train.seed)
    model = find_family(preset.family).model_class(preset.model)
    if model.needs_statistics:
        total = DatasetStatistics()
        for number in range(0, len(squares), max(1, len(squares) // 512)):
            rgb = torch.from_numpy(squares.decoded(number)).permute(2, 0, 1).float() / 255
            total = total + DatasetStatistics.of_ab(rgb_to_lab(rgb)[None, 1:].numpy())
        model.fit_statistics(total)
    encoder = pretrained(model)
    if encoder is not None and arguments.encoder_weights:
        encoder.load_pretrained(torch.load(arguments.encoder_weights, weights_only=True))
    if arguments.init_from:
        files = {name: (arguments.init_from / name).read_bytes() for name in FILES}
        given, wanted = checkpoint.load(files)[0].state_dict(), model.state_dict()
        taken = {k: v for k, v in given.items() if k in wanted and wanted[k].shape == v.shape}
        print(f"{len(taken)} of {len(wanted)} tensors are those of {arguments.init_from}", flush=True)
        model.load_state_dict(taken, strict=False)
    return model


class Judge:
    """Scores of a model on some photographs: the same squares and noise each time."""

    def __init__(self, squares: Squares, device: torch.device, batch_size: int = 64) -> None:
        squares.data = replace(squares.data, crop_scale_min=1.0, flip=False, aging_share=0.0)
        self.count, self.device = len(squares), device
        self.batches = []
        for first in range(0, self.count, batch_size):
            numbers = range(first, min(first + batch_size, self.count))
            square = torch.stack([squares[0, number] for number in numbers])
            l_n, ab_n = color_pair(square.to(device).permute(0, 3, 1, 2))
            weight = torch.ones(len(numbers), device=device)
            self.batches.append(Batch(condition=Condition(image=l_n), target=ab_n, weight=weight))

    @torch.no_grad()
    def __call__(self, model: ConditionalModel) -> dict[str, float]:
        """Return the loss, its terms, and the accuracy of the point prediction."""
        was_training, phase = model.training, next(iter(model.phases))
        model.eval()
        terms: dict[str, float] = {}
        hits = np.zeros((AB_CELLS, NUM_THRESHOLDS + 1), np.int64)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(0)
            for batch in self.batches:
                with autocast(resolve("auto", self.device), self.device):
                    for name, value in model(batch, phase).items():
                        terms[name] = terms.get(name, 0.0) + float(value) * batch.num_samples / self.count
                    noise = NoiseSource(0, [SampleId("val", str(i)) for i in range(batch.num_samples)], range(1))
                    point = model.sample(batch.condition, noise, SampleOptions(mode="point"))[:, 0].float()
                ab, truth = denormalize_ab(point).cpu(), denormalize_ab(batch.target).cpu()
                for answer, true in zip(ab, truth, strict=True):
                    hits += count_hits(ab_distance(answer, true), ab_cells(true))
        model.train(was_training)
        accuracy = {"AuC raw": 100 * float(auc_raw(hits)), "AuC balanced": 100 * float(auc_balanced(hits))}
        return {"loss": sum(terms.values())} | terms | accuracy


def save(model: ConditionalModel, folder: Path, extra: dict[str, object]) -> None:
    """Write a model's files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in checkpoint.dump(model, extra, weights="fp32").items():
        (folder / name).write_bytes(data)


def shown(values: Mapping[str, torch.Tensor | float]) -> str:
    """Return named numbers as text."""
    return ", ".join(f"{name} {float(value):.4f}" for name, value in values.items())


def train(squares: Squares, judge: Judge | None, model: ConditionalModel, arguments: argparse.Namespace) -> int:
    """Train for the seconds asked for; returns the number of steps."""
    preset, device = arguments.preset, torch.device(arguments.device)
    training = Training(model.to(device).train(), preset.train)
    batches = Epochs(len(squares), preset.train.batch_size, preset.train.seed)
    loader = DataLoader(squares, batch_sampler=batches, num_workers=arguments.workers, pin_memory=device.type == "cuda")
    weight = torch.ones(preset.train.batch_size, device=device)
    least, minutes, start = float("inf"), 0, time.monotonic()
    for step, square in enumerate(loader):
        seconds = time.monotonic() - start
        ends = seconds >= preset.train.max_seconds
        if ends or seconds >= 60 * (minutes + 1):
            minutes += 1
            scores = judge(training.averaged) if judge else {}
            print(f"step {step}, {seconds:.0f} s, val: {shown(scores)}", flush=True)
            if scores and scores["loss"] < least:
                least = scores["loss"]
                save(training.averaged, arguments.run / "best", arguments.extra | {"step": step})
        if ends:
            save(training.averaged, arguments.run, arguments.extra | {"step": step})
            return step
        l_n, ab_n = color_pair(square.to(device, non_blocking=True).permute(0, 3, 1, 2))
        batch = Batch(condition=Condition(image=l_n), target=ab_n, weight=weight)
        terms = training.step(batch, step, rate=learning_rate(preset.train, step, seconds))
        if step % 100 == 0:
            rate = step * len(weight) / max(seconds, 1e-9)
            print(f"step {step}, {seconds:.0f} s, {rate:.0f} images/s: {shown(terms)}", flush=True)
    raise AssertionError("epochs have no end")


def changed(preset: Preset, assignments: Sequence[str]) -> Preset:
    """Return the preset with ``section.name=value`` set, values as JSON has them."""
    for assignment in assignments:
        name, value = assignment.split("=", 1)
        section, field = name.split(".")
        read = json.loads(value) if value[:1] in "-0123456789tf[" else value
        read = tuple(read) if isinstance(read, list) else read
        preset = replace(preset, **{section: replace(getattr(preset, section), **{field: read})})
    return preset


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of tars of JPEGs, as condgen shard makes it")
    parser.add_argument("run", type=Path, help="where model.safetensors and model.json are written")
    parser.add_argument("--preset", default="colorizer", type=find_preset)
    parser.add_argument("--init-from", type=Path, help="a folder with the weights to begin with, as far as they match")
    parser.add_argument("--encoder-weights", type=Path, help="torchvision's file of a pretrained encoder's weights")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument(
        "--set", action="append", default=[], dest="changes", metavar="NAME=VALUE", help="of the preset"
    )
    parser.add_argument("--workers", type=int, default=14, help="processes that decode")
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args(arguments)
    ends = [f"train.max_seconds={given.seconds}", "train.steps=1000000000"]
    preset = given.preset = changed(given.preset, ["train.precision=auto", *given.changes, *ends])
    size_px = preset.data.sample_px or preset.data.size_px
    given.extra = {"preset": preset.name, "family": preset.family, "size_px": size_px}
    tars = sorted(given.data.glob("train-*.tar")) or sorted(given.data.glob("*.tar"))
    squares = Squares(tars, preset.data, preset.train.seed)
    held_out = Squares(sorted(given.data.glob("val-*.tar")), preset.data, preset.train.seed)
    print(f"{len(squares)} photographs, torch {torch.__version__}, {given.device}", flush=True)
    judge = Judge(held_out, torch.device(given.device)) if len(held_out) else None
    model = first_model(squares, given)
    if judge:
        print(f"val, before: {shown(judge(model.to(given.device)))}", flush=True)
    steps = train(squares, judge, model, given)
    print(f"{steps} steps in {given.seconds:.0f} s: {given.run}")


if __name__ == "__main__":
    main()
