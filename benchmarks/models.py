"""What a preset costs: a training step, a draw, peak memory, with the family's own settings at its own size.

    python benchmarks/models.py [PRESET ...] [--device cuda] [--batch-size N] [--draws K] [--size-px N]

Pictures are noise: no family's time depends on what they show. A step is every phase that a training step has, with
its optimizers and averaged weights (`condgen.training`); on a GPU under bf16 autocast, as training is. Beside it are
the share of time in which the GPU was busy (NVML's), and the CPU time of an image; PyTorch waits for the GPU busily. A
draw is one of K of a batch, with the preset's own number of sampler steps. Memory is the GPU's peak, or the process's
over what it had before the model; each preset runs in a process of its own. It needs condgen and torch alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PRESETS_SHOWN = (
    "regression",
    "gaussian",
    "mixture",
    "color-classifier",
    "crf",
    "cgan",
    "pix2pix",
    "pix2pix-paper",
    "cyclegan",
    "cyclegan-paper",
    "dualgan",
    "discogan",
    "cvae",
    "autoregressive",
    "diffusion",
    "diffusion-flow",
)
WARM_UP = 2


def timed(run: Callable[[], object], seconds: float, synchronize: Callable[[], None]) -> list[float]:
    """The seconds of each call, of calls of at least ``seconds`` in all (at most one, if it takes longer)."""
    taken: list[float] = []
    while not taken or (sum(taken) < seconds and len(taken) < 50):
        start = time.perf_counter()
        run()
        synchronize()
        taken.append(time.perf_counter() - start)
    return taken


def resident_mib(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measure(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measure one preset in this process."""
    import torch
    from machine import GpuWatch

    from condgen.base import Batch, Condition
    from condgen.families import FAMILIES
    from condgen.presets import find_preset
    from condgen.training import Training

    device = torch.device(given.device)
    gpu = device.type == "cuda"
    preset = find_preset(name)
    size = given.size_px or preset.data.size_px
    count = given.batch_size or (min(preset.train.batch_size, 16) if gpu else 1)
    synchronize: Callable[[], None] = torch.cuda.synchronize if gpu else lambda: None
    began = resident_mib("VmRSS")
    torch.manual_seed(0)
    model = FAMILIES[preset.family].model_class(preset.model).to(device).train()
    x = torch.rand(count, preset.model.condition_channels, size, size, device=device) * 2 - 1
    y = torch.rand(count, preset.model.target_channels if hasattr(preset.model, "target_channels") else 2, size, size)
    batch = Batch(condition=Condition(image=x), target=y.to(device) - 0.5, weight=torch.ones(count, device=device))
    training = Training(model, preset.train)
    numbers = iter(range(1_000_000))

    def step() -> None:
        training.step(batch, next(numbers))

    for _ in range(WARM_UP if gpu else 1):
        step()
    synchronize()
    cpu_before = time.process_time()
    with GpuWatch() as watch:
        steps = timed(step, given.seconds, synchronize)
    cpu_ms = 1e3 * (time.process_time() - cpu_before) / (count * len(steps))
    step_seconds = statistics.median_high(steps)
    step_mib = torch.cuda.max_memory_allocated() / 2**20 if gpu else resident_mib("VmHWM") - began
    training.optimizers.clear()
    return {
        "preset": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "size": size,
        "batch": count,
        "step_ms": step_seconds * 1e3,
        "images_per_s": count / step_seconds,
        "busy": watch.share,
        "cpu_ms": cpu_ms,
        "step_mib": step_mib,
        **measure_draws(model.eval(), batch.condition, given, synchronize),
    }


def measure_draws(
    model: Any, condition: Any, given: argparse.Namespace, synchronize: Callable[[], None]
) -> dict[str, Any]:
    """Measure a model's draws: how many of each image, and the time and memory that they take."""
    import torch

    from condgen.base import SampleOptions
    from condgen.noise import NoiseSource, SampleId
    from condgen.precision import autocast

    device, count = condition.image.device, len(condition.image)
    gpu = device.type == "cuda"
    draws = given.draws if model.is_stochastic else 1
    noise = NoiseSource(0, [SampleId("noise", str(i)) for i in range(count)], range(draws))
    options = SampleOptions(mode="draw" if model.is_stochastic else "point")

    def draw() -> None:
        with torch.inference_mode(), autocast("bf16" if gpu else "fp32", device):
            model.sample(condition, noise, options)

    draw()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = statistics.median_high(timed(draw, given.seconds, synchronize)) / (count * draws)
    mib = torch.cuda.max_memory_allocated() / 2**20 if gpu else None
    return {"draws": draws, "draw_ms": seconds * 1e3, "draw_mib": mib}


def machine(device: str) -> str:
    """The device's name and the versions."""
    import torch

    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, bf16; {versions}"
    return f"{torch.get_num_threads()} threads on {platform.machine()}, fp32; {versions}"


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    draw_mib = f"{found['draw_mib']:,.0f}" if found["draw_mib"] is not None else "–"
    busy = f"{found['busy']:.0%}" if found["busy"] is not None else "–"
    return (
        f"| {found['preset']} | {found['parameters'] / 1e6:.1f} M | {found['size']} px | {found['batch']} "
        f"| {found['step_ms']:,.0f} | {found['images_per_s']:,.1f} | {busy} | {found['cpu_ms']:,.1f} "
        f"| {found['step_mib']:,.0f} | {found['draw_ms']:,.0f} | {draw_mib} |"
    )


def main() -> None:
    """Measure the presets, each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", metavar="PRESET")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=0, help="default: 1 on a CPU, the preset's (at most 16) else")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of timing, for the step and for the draw each")
    parser.add_argument("--size-px", type=int, default=0, help="default: the preset's")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.presets[0], given)))
        return
    heads = ("parameters", "size", "batch", "step ms", "images/s", "GPU busy", "CPU ms an image", "step MiB", "draw ms")
    print(f"| preset | {' | '.join(heads)} | draws' MiB |\n| --- |{' ---: |' * (len(heads) + 1)}", flush=True)
    options = [word for word in sys.argv[1:] if word not in given.presets]
    failed = False
    for name in given.presets or PRESETS_SHOWN:
        command = [sys.executable, __file__, name, "--one", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            failed = True
            print(f"| {name} | failed: {done.stderr.strip().splitlines()[-1][:120]} |", flush=True)
            continue
        print(row(json.loads(done.stdout.splitlines()[-1])), flush=True)
    print(f"\n{machine(given.device)}")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
