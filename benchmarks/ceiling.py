"""How much of a photograph's color variation is left at a colorizer's own resolution, where its colors are all true?

    benchmarks/ceiling.py DATASET [--split test] [--limit 100] [--size 160] [--stride 4]

The true ab of each photograph is brought to the model's square, averaged over cells of its stride, and put back as
`condgen colorize` puts a model's. What `condgen evaluate` then calls the total variation ratio (ab at 64 px over the
originals') is the most that a model of this resolution can have without inventing edges.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch.nn import functional as F

from condgen.color.lab import normalize_ab, rgb_to_lab
from condgen.metrics.distribution import total_variation
from condgen.nn.unet import pool_to_stride, upsample_from_stride
from pipelines.datasets.chunk import ChunkLimits, image_member, iter_chunks, read_chunk
from pipelines.datasets.chunking import chunk_table
from pipelines.datasets.opening import open_dataset
from pipelines.images.decoding import decode
from pipelines.models.colorization import UPSAMPLING, ColorizeTask

_MEASURED_PX = 64


def ab_of(rgb: np.ndarray, size_px: int) -> torch.Tensor:
    """Return the ab of an image brought to a square, ``[1, 2, S, S]``."""
    pixels = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 255
    return rgb_to_lab(F.interpolate(pixels, size=(size_px, size_px), mode="bilinear", antialias=True))[:, 1:]


def main() -> None:
    """Measure, and print a line for each upsampling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--stride", type=int, default=4)
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.dataset)
    ratios: dict[str, list[float]] = {name: [] for name in UPSAMPLING}
    chunks = iter_chunks(chunk_table(dataset.table(arguments.split), ChunkLimits()))
    for sample in (sample for chunk in chunks for sample in read_chunk(dataset.store, chunk)):
        if len(ratios[UPSAMPLING[0]]) == arguments.limit:
            break
        rgb = decode(image_member(sample))
        side = min(rgb.shape[:2])
        rgb = rgb[:side, :side]
        coarse = pool_to_stride(normalize_ab(ab_of(rgb, arguments.size)), arguments.stride)
        tile = upsample_from_stride(coarse, arguments.stride, (arguments.size, arguments.size))
        true = float(total_variation(ab_of(rgb, _MEASURED_PX))[0])
        for name in UPSAMPLING:
            task = ColorizeTask(arguments.size, upsampling=name, stride=arguments.stride)
            _, region = task.condition(rgb)
            (image,) = task.images(rgb, [tile], region)
            ratios[name].append(float(total_variation(ab_of(image, _MEASURED_PX))[0]) / max(true, 1e-6))
    for name, values in ratios.items():
        print(f"{name:9} total variation ratio {np.mean(values):.2f} of {len(values)} photographs")


if __name__ == "__main__":
    main()
