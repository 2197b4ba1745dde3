"""The batch job's engine without Ray: images a second, the GPU's busy share, and what an image costs the CPUs by stage.

    python benchmarks/gpu_batch.py [CASE ...] [--device cuda] [--processes 1,4] [--threads N] [--seconds 10]

A case is a model and the side of its images, such as colorizer:640. As in production, a process holds the model and
does several chunks at a time, each in a thread, so that one decodes and encodes while another has the model
(`pipelines/batch/pool_shape.py`); --processes 4 is what `condgen colorize --num-gpus 0.25` has. --on-gpu
model,model+colors+noise+jpeg measures the model alone there, and with `--colors-on gpu --noise-on gpu --encode-on gpu`.
Images are those of `corpus.py`, three draws of each; they are read from a folder and written to Parquet. Rates are of
chunks that end in a window of some seconds, once every thread is at work. The GPU's busy share is NVML's: the share of
time in which anything ran on it. Where NVML isn't there, the share of time in which a thread had the model says at most
as much. CPU time that waits for the GPU is the model's: PyTorch waits busily.

Without a GPU, --no-model shows what a process can feed: its threads are those of a GPU's, and the model costs nothing
after its first batch. They share Python's lock; *cores* says how many of them work at a time.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

NEEDED = ("PIL", "lazy_loader", "numba", "numpy", "pyarrow", "safetensors", "simplejpeg", "torch", "torchvision")
"""What the engine imports for JPEGs in a folder. (`corpus.py` cuts them from photographs in other packages.)"""
WHEELS = {"PIL": "pillow", "lazy_loader": "lazy-loader"}
CASES = ("color-classifier-small:256", "colorizer:640")
STAGES = ("read", "decode", "condition", "model", "picture", "encode", "write")


def check_needs() -> None:
    """Leave with one line where packages are missing: which, and how they get here."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        wheels = " ".join(WHEELS.get(name, name) for name in missing)
        raise SystemExit(
            f"error: not here: {', '.join(missing)}. Where packages can be had, make gpu-wheels WHEELS='{wheels}'; "
            "bring the folder .wheels along, and run make gpu here again"
        )


def work(case: dict[str, Any], ready: Any, answers: Any) -> None:
    """Do a process's chunks over and over, and answer with what it did in the window, or with its error."""
    try:
        answers.put(window(case, ready))
    except BaseException as error:
        ready.abort()
        answers.put({"error": f"{type(error).__name__}: {error}"})
        raise


def take_model_out(engine: Any) -> None:
    """Let an engine answer with its first batch's outputs, and do chunks side by side as where the model has a GPU."""
    call, kept = engine._call, {}  # noqa: SLF001

    def first_outputs(x: Any, noise: Any) -> Any:
        return kept["y"] if kept else kept.setdefault("y", call(x, noise))

    engine._call, engine._turn, engine._feeds_gpu = first_outputs, nullcontext(), True  # noqa: SLF001


def window(case: dict[str, Any], ready: Any) -> dict[str, Any]:
    """Do chunks over and over in threads, and return what they did in some seconds, once each has done one."""
    import torch
    from machine import GpuWatch

    from pipelines.batch.engine import Clock

    class CpuClock(Clock):
        """Seconds of this thread's CPU time besides."""

        @contextmanager
        def __call__(self, stage: str) -> Iterator[None]:
            start = time.thread_time()
            try:
                with super().__call__(stage):
                    yield
            finally:
                cpu[stage] += time.thread_time() - start

    engine = case["spec"].make_engine()
    if not case["model"]:
        take_model_out(engine)
    chunks, lock = itertools.cycle(case["chunks"]), threading.Lock()
    cpu: Counter[str] = Counter()
    done: list[tuple[float, int, float]] = []
    stop = threading.Event()

    def loop() -> None:
        torch.set_num_threads(1)
        while not stop.is_set():
            with lock:
                chunk = next(chunks)
            receipt = engine.run(chunk, clock=CpuClock())
            done.append((time.monotonic(), receipt.samples - receipt.errors, receipt.seconds["model"]))

    engine.run(case["chunks"][0])  # the first call sets things up
    ready.wait()
    with ThreadPoolExecutor(case["threads"]) as pool:
        loops = [pool.submit(loop) for _ in range(case["threads"])]
        while len(done) < len(loops) and not any(one.done() for one in loops):
            time.sleep(0.05)
        begin, cpu_before, stages_before = time.monotonic(), time.process_time(), Counter(cpu)
        with GpuWatch() as watch:
            time.sleep(case["seconds"])
        end, cpu_after, stages = time.monotonic(), time.process_time(), Counter(cpu)
        stop.set()
        for one in loops:
            one.result()
    counted = [one for one in done if begin < one[0] <= end]
    stages.subtract(stages_before)
    return {
        "images": sum(images for _, images, _ in counted),
        "seconds": end - begin,
        "cpu_s": cpu_after - cpu_before,
        "model_s": sum(seconds for _, _, seconds in counted),
        "stages": dict(stages),
        "busy": watch.share,
    }


def prepare(case: str, on_gpu: str, given: argparse.Namespace) -> tuple[Any, list[Any]]:
    """Return what an engine is made of, with results in a folder of its own, and the chunks of a case."""
    from corpus import make_corpus, save_model

    from condgen.pretrained import PRETRAINED
    from pipelines.batch.archive import plan_archive
    from pipelines.batch.probe import inspect_model
    from pipelines.batch.worker import WorkerSpec
    from pipelines.datasets.chunk import ChunkLimits, iter_chunks
    from pipelines.models.options import ColorizeOptions
    from pipelines.models.source import open_model
    from pipelines.results.settings import BatchSettings, OutputOptions
    from pipelines.storage.store import open_store

    name, _, size_px = case.partition(":")
    folder = make_corpus(given.out / f"jpeg-{given.images}-{size_px}", given.images, int(size_px))
    model = open_model(name if name in PRETRAINED else str(save_model(given.out / f"model-{name}", name)))
    places = {what: "gpu" if what in on_gpu.split("+") else "cpu" for what in ("colors", "noise", "jpeg")}
    settings = BatchSettings(
        draws=3,
        batch_size=given.batch_size,
        precision="auto",
        noise_on=places["noise"],
        colorize=ColorizeOptions(colors_on=places["colors"]),
        output=OutputOptions(encode_on=places["jpeg"]),
    )
    facts = inspect_model(model, settings)
    limits = ChunkLimits(samples=min(facts.settings.chunk_samples, given.images))
    chunks = list(iter_chunks(plan_archive(str(folder), limits)))
    spec = WorkerSpec(
        archive=open_store(str(folder)),
        results=open_store(tempfile.mkdtemp(dir=given.out)),
        model=model,
        model_digest=facts.digest,
        settings=facts.settings,
    )
    return spec, chunks


def measure(case: str, processes: int, on_gpu: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measure a case with so many processes that share the device, and what is made there beside the model."""
    spec, chunks = prepare(case, on_gpu, given)
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(processes, timeout=300), context.SimpleQueue()
    threads = given.threads or (max(2, min(16, (os.cpu_count() or 1) // processes)) if given.device == "cuda" else 2)
    workers = []
    for place in range(processes):
        own = replace(spec, results=spec.results.child(str(place)))
        of_it = chunks[place::processes] or chunks
        its_case = {"spec": own, "chunks": of_it, "threads": threads, "seconds": given.seconds, "model": given.model}
        workers.append(context.Process(target=work, args=(its_case, ready, answers)))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = [answers.get() for _ in workers if not answers.empty()]
    shutil.rmtree(spec.results.locate())
    errors = [one["error"] for one in found if "error" in one]
    if errors or len(found) < processes:
        raise SystemExit(f"error: {case}: {', '.join(errors) or 'a process died'}")
    return {"threads": threads, **together(found)}


def together(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what processes did together: images a second, shares of time, CPU milliseconds an image by stage."""
    busy = [one["busy"] for one in found if one["busy"] is not None]
    spent = {stage: sum(one["stages"].get(stage, 0.0) for one in found) for stage in STAGES}
    per_image = 1e3 / max(1, sum(one["images"] for one in found))
    return {
        "images_per_s": sum(one["images"] / one["seconds"] for one in found),
        "busy": sum(busy) / len(busy) if busy else None,
        "in_model": sum(one["model_s"] / one["seconds"] for one in found) / len(found),
        "cores": sum(one["cpu_s"] / one["seconds"] for one in found),
        "cpu_ms": sum(one["cpu_s"] for one in found) * per_image,
        "stages": {stage: seconds * per_image for stage, seconds in spent.items()},
    }


def main() -> None:
    """Measure the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", default=[])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--processes", default="1", help="numbers of processes that share the device, with commas")
    parser.add_argument("--on-gpu", default="model", help="model, model+colors, model+jpeg, ...: variants, with commas")
    parser.add_argument("--threads", type=int, default=0, help="chunks at a time in each (default: as in production)")
    parser.add_argument("--model", action=argparse.BooleanOptionalAction, default=True, help="whether it is run")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "condgen-benchmark")
    given = parser.parse_args()
    check_needs()
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the engine takes a GPU where there is one
    import torch
    from machine import describe

    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: torch sees no GPU here")
    print(f"three draws of each image, batches of {given.batch_size}; {describe()}\n")
    heads = ("processes × threads", "images/s", "GPU busy", "in the model", "cores", "CPU ms an image", *STAGES)
    print(f"| case | on the GPU |{' |'.join(f' {head}' for head in heads)} |")
    print(f"| --- | --- |{' ---: |' * len(heads)}", flush=True)
    variants = itertools.product(given.cases or CASES, given.processes.split(","), given.on_gpu.split(","))
    for case, processes, on_gpu in variants:
        one = measure(case, int(processes), on_gpu, given)
        busy = f"{one['busy']:.0%}" if one["busy"] is not None else "–"
        cells = [case, on_gpu, f"{processes} × {one['threads']}", f"{one['images_per_s']:,.0f}", busy]
        cells += [f"{one['in_model']:.0%}", f"{one['cores']:.2f}", f"{one['cpu_ms']:.2f}"]
        cells += [f"{value:.2f}" for value in one["stages"].values()]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
