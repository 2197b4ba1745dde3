"""What training takes: its step against the plain loop, its data against data in memory, its checkpoints.

    python benchmarks/train.py [CASE ...]              # on CPUs; then train_stream.py and train_checkpoint.py
    python benchmarks/train.py --device cuda           # the steps alone, which need condgen and torch alone

A case is a preset and a batch size, such as pix2pix:16; naming cases leaves out the other parts. Every loop does some
steps in turn, and a number is the median over the rounds, so that what else the machine does hits all of them. Where it
does much, --cpu-time counts the CPU seconds of one thread. The plain loop (`plain_loops.py`) is eager, in float32 and
PyTorch's own memory format; on GPUs it is measured with torch's defaults, under which convolutions compute in TF32, and
without. A loop that fails shows its error, and the others go on. Pictures are noise.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

CASES = ("pix2pix:1", "pix2pix:16", "cyclegan:1")
CHUNK_SECONDS = 0.25  # of a loop, between two others


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """One of the loops.

    Attributes:
        name: name in the table.
        plain: whether it is the plain loop, not ours.
        tf32: whether convolutions in float32 may compute in TF32 on GPUs, as torch's default is.
        settings: settings of training, where the loop is ours.
        tuned: whether cuDNN tries its algorithms (``torch.backends.cudnn.benchmark``).
        channels_first: whether convolutions keep PyTorch's own memory format.
    """

    name: str
    plain: bool = False
    tf32: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    tuned: bool = False
    channels_first: bool = False


GPU_KINDS = (
    Kind(name="plain loop, fp32", plain=True, tf32=False),
    Kind(name="plain loop, TF32", plain=True),
    Kind(name="condgen, bf16"),
    Kind(name="... channels first", channels_first=True),
    Kind(name="... cuDNN tuned", tuned=True),
    Kind(name="... compiled", settings={"compile": "default"}),
    Kind(name="... compiled, CUDA graphs", settings={"compile": "reduce-overhead"}),
)
CPU_KINDS = (
    Kind(name="plain loop, fp32", plain=True),
    Kind(name="condgen, fp32", settings={"precision": "fp32"}),
    Kind(name="condgen, bf16", settings={"precision": "bf16"}),
    Kind(name="... compiled", settings={"precision": "bf16", "compile": "default"}),
)


def make_step(kind: Kind, model: Any, train: Any, batch: Any) -> Callable[[], object]:
    """Return a function that does one step of a loop."""
    import torch
    from plain_loops import plain_step

    from condgen.training import Training

    if kind.plain:
        step = plain_step(model, train)
        return lambda: step(batch)
    if kind.channels_first:
        model.to(memory_format=torch.contiguous_format)
    settings = {"channels_last": not kind.channels_first, **kind.settings}
    training, numbers = Training(model, replace(train, **settings)), iter(range(1_000_000))
    return lambda: training.step(batch, next(numbers))


def run_case(case: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measure a case in this process, as soon as a line comes from its standard input; returns milliseconds by loop."""
    import torch

    from condgen.base import Batch, Condition
    from condgen.families import FAMILIES
    from condgen.presets import find_preset

    name, _, count = case.partition(":")
    device, gpu = torch.device(given.device), given.device.startswith("cuda")
    preset, size, side, clock = find_preset(name), int(count), given.size_px, time.perf_counter
    if given.cpu_time:
        torch.set_num_threads(1)
        clock = time.process_time
    config = replace(preset.model, pool_px=side) if hasattr(preset.model, "pool_px") else preset.model
    torch.manual_seed(0)
    model = FAMILIES[preset.family].model_class(config).to(device).train()
    x, y = (
        torch.rand(size, c, side, side, device=device) * 2 - 1
        for c in (config.condition_channels, config.target_channels)
    )
    batch = Batch(condition=Condition(image=x), target=y, weight=torch.ones(size, device=device))
    kinds = [kind for kind in (GPU_KINDS if gpu else CPU_KINDS) if given.compile or "compile" not in kind.settings]
    steps: dict[Kind, Callable[[], object]] = {}
    errors: dict[str, str] = {}

    def timed(kind: Kind, most: float) -> float:
        """Return the seconds of a step, the mean of some that take ``most`` seconds together."""
        if kind not in steps:
            steps[kind] = make_step(kind, copy.deepcopy(model), preset.train, batch)
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = kind.tf32, kind.tuned
        begin, done = clock(), 0
        while not done or (clock() - begin < most and done < 100):
            steps[kind]()
            done += 1
        if gpu:
            torch.cuda.synchronize()
        return (clock() - begin) / done

    def attempt(kind: Kind, most: float = 0.0) -> float | None:
        try:
            return timed(kind, most)
        except Exception as error:  # noqa: BLE001 - the other loops go on
            errors[kind.name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"[:160]
            steps.pop(kind, None)
            return None

    for kind in sorted(kinds, key=lambda kind: len(kind.settings)):
        for _ in range(4 if gpu else 1):  # CUDA graphs are recorded in the second step
            if kind.name not in errors:
                attempt(kind)
    print("ready", flush=True)
    sys.stdin.readline()
    taken: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    for _ in range(given.rounds):
        for kind in kinds:
            seconds = attempt(kind, CHUNK_SECONDS) if kind in steps else None
            if seconds is not None:
                taken[kind.name].append(seconds * 1e3)
    return {"case": case, "samples": size, "taken": taken, "errors": errors}


def rows(found: dict[str, Any]) -> list[str]:
    """Return the table's lines of a case; the first loop is what the others are measured against."""
    middle = {name: statistics.median(values) for name, values in found["taken"].items() if values}
    plain = [middle.get(name) for name in found["taken"] if name.startswith("plain")]
    lines = []
    for name, values in found["taken"].items():
        if name in found["errors"]:
            lines.append(f"| {found['case']} | {name} | failed: {found['errors'][name]} |")
            continue
        ratios = [f"{base / middle[name]:.2f}" if base else "–" for base in plain]
        spread = f"{min(values):,.1f} to {max(values):,.1f}"
        rate = found["samples"] * 1e3 / middle[name]
        cells = [found["case"], name, f"{middle[name]:,.1f}", spread, f"{rate:,.1f}", *ratios]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def cpu_name() -> str:
    """Return the processor's name (of Linux)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def machine(device: str, size_px: int, *, cpu_time: bool) -> str:
    """Return the device's name and the versions."""
    import torch

    versions = f"Python {platform.python_version()}, torch {torch.__version__}; images of {size_px} px"
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, {versions}"
    what = "CPU time of one thread" if cpu_time else f"{torch.get_num_threads()} threads"
    return f"{cpu_name()}, {what}, load {os.getloadavg()[0]:.0f}; {versions}"


def run_cases(cases: Sequence[str], together: bool) -> bool:
    """Print the rows of cases, each measured in a process of its own and none beside another; returns whether all ran.

    With ``together`` all are made ready at once, since compilers take most of the time.
    """
    options = [word for word in sys.argv[1:] if word not in cases]
    good = True
    for some in [list(cases)] if together else [[case] for case in cases]:
        children = [
            subprocess.Popen(
                [sys.executable, __file__, case, "--child", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for case in some
        ]
        ready = [child.stdout is not None and "ready" in child.stdout.readline() for child in children]
        for case, child, is_ready in zip(some, children, ready, strict=True):
            answer, _ = child.communicate("go\n" if is_ready else None)
            if child.returncode or not answer.strip():
                good = False
                print(f"| {case} | failed: see above |", flush=True)
                continue
            print("\n".join(rows(json.loads(answer.splitlines()[-1]))), flush=True)
    return good


def main() -> None:
    """Measure all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", default=[])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size-px", type=int, default=256, help="side of the images (default: 256)")
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds of one thread, not the clock's")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="compiled loops (default: on GPUs)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    cases, gpu = given.cases or list(CASES), given.device.startswith("cuda")
    given.compile = gpu if given.compile is None else given.compile
    if given.child:
        print(json.dumps(run_case(cases[0], given)))
        return
    ratios = ("× fp32", "× TF32") if gpu else ("× plain",)
    heads = ("case", "loop", "ms a step", "least to most", "images/s", *ratios)
    print(f"| {' | '.join(heads)} |\n| --- | --- |{' ---: |' * (len(heads) - 2)}", flush=True)
    good = run_cases(cases, together=gpu)
    print(f"\n{machine(given.device, given.size_px, cpu_time=given.cpu_time)}", flush=True)
    for script in () if gpu or given.cases else ("train_stream.py", "train_checkpoint.py"):
        print(flush=True)
        good &= not subprocess.run([sys.executable, Path(__file__).with_name(script)], check=False).returncode
    sys.exit(int(not good))


if __name__ == "__main__":
    main()
