"""A look at a model before a plan is frozen: does it fit the job, and what of the settings does it decide?"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from condgen.errors import ConfigError
from pipelines.cluster.tasks import one_thread
from pipelines.models.source import LoadedModel, ModelSource, image_task, require_encoder, require_gpu
from pipelines.results.settings import AUTO_BATCH, BatchSettings

__all__ = ["ModelFacts", "inspect_model", "probe_batch_size"]

_CPU_SIZES = (1, 2, 4, 8, 16, 32)
_GPU_SIZES = (8, 16, 32, 64, 128, 256, 512)
_MEMORY_SHARE = 0.7
_MIN_GAIN = 1.05
_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model's family and digest, and the settings of its job, in which nothing is open any more."""

    family: str
    digest: str
    settings: BatchSettings


def inspect_model(source: ModelSource, settings: BatchSettings) -> ModelFacts:
    """Load a model, check that it fits the job, and decide what the settings leave open: draws, precision, batch size.

    The precision and the batch size are those for this process's device.

    Raises:
        ConfigError: the model can't do what is asked for.
        CheckpointError, StorageError: it can't be loaded.
    """
    import torch

    from condgen.precision import resolve

    loaded = source.load()
    model = loaded.model
    image_task(loaded, settings.task_options)
    if settings.noise_on == "gpu":
        require_gpu("noise_on")
    if settings.output.encode_on == "gpu":
        require_encoder("encode_on")
    sample = settings.sample
    if settings.draws > 1 and sample.mode == "draw" and not model.is_stochastic:
        raise ConfigError("draws", settings.draws, f"1: family {model.family!r} makes a point prediction")
    if sample.direction not in model.directions:
        raise ConfigError("direction", sample.direction, f"{' or '.join(model.directions)} for {model.family!r}")
    model.check_options(sample)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = settings.settle_draws(is_stochastic=model.is_stochastic)
    settings = replace(settings, precision=resolve(settings.precision, device))
    if settings.batch_size == AUTO_BATCH:
        settings = replace(settings, batch_size=probe_batch_size(loaded, settings))
    return ModelFacts(family=model.family, digest=loaded.digest, settings=settings)


def probe_batch_size(loaded: LoadedModel, settings: BatchSettings) -> int:
    """Return the batch size beyond which this machine gets no faster, found on images of noise in a few seconds.

    On a GPU a batch takes at most 70 % of its memory. On a CPU one thread is measured, as workers have one.

    Args:
        loaded: the model.
        settings: settings of the job, whose draws and precision are decided.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with one_thread():
        model = loaded.model.eval().to(device)
        best, best_rate = 1, 0.0
        for size in _GPU_SIZES if device.type == "cuda" else _CPU_SIZES:
            rate = _rate(model, loaded, settings, size, device)
            if rate is None:
                break
            if rate > best_rate * _MIN_GAIN:
                best, best_rate = size, rate
        return best


def _rate(model: Any, loaded: LoadedModel, settings: BatchSettings, size: int, device: Any) -> float | None:
    """Return images a second at a batch size, or None where it takes too much memory."""
    import numpy as np
    import torch

    from condgen.base import Condition
    from condgen.noise import NoiseSource, SampleId
    from condgen.precision import autocast

    noisy_rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    tile = image_task(loaded, settings.task_options).condition(noisy_rgb)[0][0]
    image = torch.stack([tile] * size).to(device)
    noise = NoiseSource(0, [SampleId("probe", str(row)) for row in range(size)], range(settings.draws))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    calls = 0
    try:
        with torch.inference_mode(), autocast(settings.precision, device):
            model.sample(Condition(image=image), noise, settings.sample).float().cpu()
            start = time.perf_counter()
            while calls == 0 or time.perf_counter() - start < _SECONDS:
                model.sample(Condition(image=image), noise, settings.sample).float().cpu()
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
