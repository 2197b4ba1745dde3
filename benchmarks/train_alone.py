"""Train a color preset without Ray: one process, one GPU (or CPU), shards read by a DataLoader. For a lent GPU.

    python benchmarks/train_alone.py DATASET RUN --preset colorizer --init-from RUN0 --seconds 480 --batch-size 256

It takes the same presets, augmentation and training step as ``condgen train`` and writes the same model files, so that
either goes on from the other's weights (``--init-from``). It has no checkpoints: a run is as long as ``--seconds``. It
needs torch, torchvision, numpy, pillow, safetensors and lazy_loader alone.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.io import ImageReadMode, decode_jpeg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from condgen import checkpoint
from condgen.base import Batch, Condition, ConditionalModel
from condgen.color.lab import color_pair, rgb_to_lab
from condgen.families import find_family
from condgen.nn.encoders import pretrained
from condgen.preset_parts import DataConfig
from condgen.presets import find_preset
from condgen.statistics import DatasetStatistics
from condgen.training import Training, learning_rate
from pipelines.streaming.aging import Aging, draw_aging
from pipelines.streaming.augmentation import Augmentation, draw_crop

Key = tuple[int, int]


class Squares(Dataset[torch.Tensor]):
    """JPEGs of tars, held encoded in memory; an item is asked for by (epoch, number) and comes as a square."""

    def __init__(self, folder: Path, data: DataConfig, seed: int) -> None:
        self.jpegs: list[bytes] = []
        for path in sorted(folder.glob("train-*.tar")) or sorted(folder.glob("*.tar")):
            with tarfile.open(path) as tar:
                members = (m for m in tar if m.name.endswith((".jpg", ".jpeg")))
                self.jpegs += [file.read() for m in members if (file := tar.extractfile(m)) is not None]
        self.data, self.seed = data, seed

    def __len__(self) -> int:
        return len(self.jpegs)

    def decoded(self, number: int) -> np.ndarray:
        """Return a photograph, ``[H, W, 3]`` uint8."""
        encoded = torch.frombuffer(bytearray(self.jpegs[number]), dtype=torch.uint8)
        return decode_jpeg(encoded, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()

    def __getitem__(self, key: Key) -> torch.Tensor:
        epoch, number = key
        data, names = self.data, {"seed": self.seed, "epoch": epoch, "source": "alone", "key": str(number)}
        crop = draw_crop(
            Augmentation(size_px=data.size_px, crop_scale_min=data.crop_scale_min, flip=data.flip), **names
        )
        square = np.zeros((data.size_px, data.size_px, 4), np.uint8)
        square[..., :3] = crop.apply(self.decoded(number), data.size_px)
        if data.aging_share and (aged := draw_aging(Aging(share=data.aging_share), **names)) is not None:
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
        files = {name: (arguments.init_from / name).read_bytes() for name in checkpoint.FILES}
        given, wanted = checkpoint.load(files)[0].state_dict(), model.state_dict()
        taken = {k: v for k, v in given.items() if k in wanted and wanted[k].shape == v.shape}
        print(f"{len(taken)} of {len(wanted)} tensors are those of {arguments.init_from}", flush=True)
        model.load_state_dict(taken, strict=False)
    return model


def train(squares: Squares, model: ConditionalModel, arguments: argparse.Namespace) -> int:
    """Train for the seconds asked for; returns the number of steps."""
    preset, device = arguments.preset, torch.device(arguments.device)
    training = Training(model.to(device).train(), preset.train)
    batches = Epochs(len(squares), preset.train.batch_size, preset.train.seed)
    loader = DataLoader(squares, batch_sampler=batches, num_workers=arguments.workers, pin_memory=device.type == "cuda")
    start = time.monotonic()
    weight = torch.ones(preset.train.batch_size, device=device)
    for step, square in enumerate(loader):
        seconds = time.monotonic() - start
        if seconds >= preset.train.max_seconds:
            files = checkpoint.dump(training.averaged, arguments.extra | {"step": step}, weights="fp32")
            arguments.run.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                (arguments.run / name).write_bytes(data)
            return step
        l_n, ab_n = color_pair(square.to(device, non_blocking=True).permute(0, 3, 1, 2))
        batch = Batch(condition=Condition(image=l_n), target=ab_n, weight=weight)
        terms = training.step(batch, step, rate=learning_rate(preset.train, step, seconds))
        if step % 100 == 0:
            shown = ", ".join(f"{name} {float(value):.4f}" for name, value in terms.items())
            print(
                f"step {step}, {seconds:.0f} s, {step * len(weight) / max(seconds, 1e-9):.0f} images/s: {shown}",
                flush=True,
            )
    raise AssertionError("epochs have no end")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of tars of JPEGs, as condgen shard makes it")
    parser.add_argument("run", type=Path, help="where model.safetensors and model.json are written")
    parser.add_argument("--preset", default="colorizer", type=find_preset)
    parser.add_argument("--init-from", type=Path, help="a folder with the weights to begin with, as far as they match")
    parser.add_argument("--encoder-weights", type=Path, help="torchvision's file of a pretrained encoder's weights")
    parser.add_argument("--encoder-rate", type=float, default=0.1, help="the encoder's share of the learning rate")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--size-px", type=int, default=160)
    parser.add_argument("--workers", type=int, default=14, help="processes that decode")
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args(arguments)
    preset = given.preset
    given.preset = replace(
        preset,
        model=replace(preset.model, encoder_rate=given.encoder_rate),
        data=replace(preset.data, size_px=given.size_px),
        train=replace(
            preset.train,
            steps=10**9,
            batch_size=given.batch_size,
            learning_rate=given.rate,
            max_seconds=given.seconds,
            precision="auto",
        ),
    )
    given.extra = {"preset": preset.name, "family": preset.family, "size_px": preset.data.sample_px or given.size_px}
    squares = Squares(given.data, given.preset.data, preset.train.seed)
    print(f"{len(squares)} photographs, torch {torch.__version__}, {given.device}", flush=True)
    steps = train(squares, first_model(squares, given), given)
    print(f"{steps} steps in {given.seconds:.0f} s: {given.run}")


if __name__ == "__main__":
    main()
