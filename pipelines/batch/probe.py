"""What is found out about a model before a plan is frozen: that it fits the job, its precision, its batch size."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from condgen.errors import ConfigError
from pipelines.models.source import LoadedModel, ModelSource, picture_task
from pipelines.results.plan import AUTO_BATCH, BatchSettings

__all__ = ["ModelFacts", "inspect_model", "probe_batch_size"]

_CPU_SIZES = (1, 2, 4, 8, 16, 32)
_GPU_SIZES = (8, 16, 32, 64, 128, 256, 512)
_MEMORY_SHARE = 0.7
_MIN_GAIN = 1.05
_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model's family and digest, and what of the settings was decided by it and by the device."""

    family: str
    digest: str
    precision: str
    batch_size: int


def inspect_model(source: ModelSource, settings: BatchSettings) -> ModelFacts:
    """Load a model, check that it fits the job, and decide what the settings leave open by this process's device.

    Args:
        source: of the model.
        settings: of the job; its precision may be `auto` and its batch size `AUTO_BATCH`.

    Raises:
        ConfigError: the model can't do what is asked for.
        CheckpointError, StorageError: it can't be loaded.
    """
    import torch

    from condgen.precision import resolve

    loaded = source.load()
    model = loaded.model
    picture_task(loaded, settings.kind, **settings.picture_options())
    if settings.draws > 1 and settings.mode == "draw" and not model.is_stochastic:
        raise ConfigError("draws", settings.draws, f"1: family {model.family!r} makes a point prediction")
    if settings.direction not in model.directions:
        raise ConfigError("direction", settings.direction, f"{' or '.join(model.directions)} for {model.family!r}")
    settings.sample_options().check_for(model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = resolve(settings.precision, device)
    batch_size = settings.batch_size
    if batch_size == AUTO_BATCH:
        batch_size = probe_batch_size(loaded, settings, precision)
    return ModelFacts(family=model.family, digest=loaded.digest, precision=precision, batch_size=batch_size)


def probe_batch_size(loaded: LoadedModel, settings: BatchSettings, precision: str) -> int:
    """The batch size beyond which this machine gets no faster, found on pictures of noise in a few seconds.

    On a GPU a batch takes at most 70 % of its memory. On a CPU one thread is measured, as workers have one.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = loaded.model.eval().to(device)
        best, best_rate = 1, 0.0
        for size in _GPU_SIZES if device.type == "cuda" else _CPU_SIZES:
            rate = _rate(model, loaded, settings, precision, size, device)
            if rate is None:
                break
            if rate > best_rate * _MIN_GAIN:
                best, best_rate = size, rate
        return best
    finally:
        torch.set_num_threads(threads)


def _rate(
    model: Any, loaded: LoadedModel, settings: BatchSettings, precision: str, size: int, device: Any
) -> float | None:
    """Images a second at a batch size; None where it takes too much memory."""
    import numpy as np
    import torch

    from condgen.base import Condition
    from condgen.noise import NoiseSource, SampleId
    from condgen.precision import autocast

    task = picture_task(loaded, settings.kind, **settings.picture_options())
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    tile = task.condition(picture)[0][0]
    image = torch.stack([tile] * size).to(device)
    noise = NoiseSource(0, [SampleId("probe", str(row)) for row in range(size)], range(settings.draws))
    options = settings.sample_options()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    calls = 0
    try:
        with torch.inference_mode(), autocast(precision, device):
            model.sample(Condition(image=image), noise, options).float().cpu()
            start = time.perf_counter()
            while calls == 0 or time.perf_counter() - start < _SECONDS:
                model.sample(Condition(image=image), noise, options).float().cpu()
                calls += 1
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    seconds = time.perf_counter() - start
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        if torch.cuda.max_memory_reserved() > _MEMORY_SHARE * total:
            return None
    return calls * size / seconds
