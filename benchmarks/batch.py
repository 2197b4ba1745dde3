"""The batch job's end-to-end rate against its limit, both measured in this run on the same images and machine.

    python benchmarks/batch.py [--images 2000] [--draws 3] [--out DIR]

The limit is cores ÷ the CPU seconds that one image costs in all stages (decode, condition, model, picture, encode),
each timed alone in a plain loop in one thread. The job is `condgen colorize` as a user runs it, on shards in a local
folder; its rate is told with and without what it costs to start.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from corpus import make_corpus

import jobs.colorize
import jobs.shard
from condgen import checkpoint
from condgen.base import Condition, SampleOptions
from condgen.families import FAMILIES
from condgen.noise import NoiseSource, SampleId
from condgen.presets import find_preset
from jobs.runtime import ray_cluster, usable_cpus
from pipelines.colour import ColourTask
from pipelines.images import decode, encode
from pipelines.plans import BatchSettings
from pipelines.sharding import ShardOptions

STAGES = ("decode", "condition", "model", "picture", "encode")


def save_model(folder: Path, preset_name: str) -> Path:
    """The preset's model with its first weights: how long it takes does not depend on what it learned."""
    preset = find_preset(preset_name)
    torch.manual_seed(0)
    model = FAMILIES[preset.family].model_class(preset.model)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in checkpoint.dump(model, {"size_px": preset.data.size_px}).items():
        (folder / name).write_bytes(data)
    return folder


def plain_loop(images: list[bytes], model_folder: Path, settings: BatchSettings) -> dict[str, float]:
    """CPU seconds an image in each stage, alone, in one thread."""
    torch.set_num_threads(1)
    model, extra = checkpoint.load({name: (model_folder / name).read_bytes() for name in checkpoint.FILES})
    model.eval()
    task = ColourTask(extra["size_px"])
    options = SampleOptions(mode="draw", temperature=settings.temperature)
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], list]) -> list:
        start = time.process_time()
        result = work()
        seconds[stage] = (time.process_time() - start) / len(images)
        return result

    def sample() -> list:
        outputs = []
        with torch.inference_mode():
            for first in range(0, len(images), settings.batch_size):
                x = torch.stack([tiles[0] for tiles, _ in conditions[first : first + settings.batch_size]])
                ids = [SampleId("s", str(first + place)) for place in range(len(x))]
                noise = NoiseSource(settings.seed, ids, range(settings.draws))
                outputs += list(model.sample(Condition(image=x), noise, options))
        return outputs

    pictures = timed("decode", lambda: [decode(data) for data in images])
    conditions = timed("condition", lambda: [task.condition(rgb) for rgb in pictures])
    outputs = timed("model", sample)
    list(task.pictures(pictures[0], [outputs[0]], conditions[0][1]))  # compiles the loop, which is part of starting
    draws = timed(
        "picture",
        lambda: [
            list(task.pictures(rgb, [y], context))
            for rgb, y, (_, context) in zip(pictures, outputs, conditions, strict=True)
        ],
    )
    timed(
        "encode",
        lambda: [encode(rgb, settings.output_format, quality=settings.quality) for rgbs in draws for rgb in rgbs],
    )
    return seconds


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--preset", default="color-classifier-small")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "condgen-benchmark")
    options = parser.parse_args()

    photographs = make_corpus(options.out / f"jpeg-{options.images}", options.images)
    shards = options.out / f"shards-{options.images}"
    jobs.shard.run(str(photographs), str(shards), options=ShardOptions(split={"all": 1.0}))
    model = save_model(options.out / "model", options.preset)
    settings = BatchSettings(draws=options.draws)
    some = [path.read_bytes() for path in sorted(photographs.glob("*.jpg"))[:256]]
    costs = plain_loop(some, model, settings)
    limit = usable_cpus() / sum(costs.values())

    with tempfile.TemporaryDirectory(dir=options.out) as results:
        start = time.perf_counter()
        with ray_cluster():
            started = time.perf_counter() - start
            report = jobs.colorize.run(
                jobs.colorize.ColorizeOptions(archive=str(shards), results=results, model=str(model), settings=settings)
            )
    names = ("condgen", "torch", "torchvision", "ray", "numpy", "pillow", "pyarrow")
    print(f"{options.images} JPEGs of 256 px, {options.draws} draws, {options.preset}, {usable_cpus()} cores")
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{name} {version(name)}" for name in names))
    print(f"{'stage':<12}{'CPU ms / image':>16}")
    for stage in STAGES:
        print(f"{stage:<12}{1000 * costs[stage]:>16.2f}")
    print(f"{'limit':<44}{limit:>9.1f} images/s")
    rates = {"its actors' start included": report.images_per_s, "from its first chunk on": report.steady_images_per_s}
    for name, rate in rates.items():
        print(f"{'job, ' + name:<44}{rate:>9.1f} images/s  {rate / limit:.2f} of the limit")
    print(f"Ray started in {started:.1f} s")
    print(json.dumps({"limit": limit, "rate": report.images_per_s, "steady": report.steady_images_per_s, **costs}))


if __name__ == "__main__":
    main()
