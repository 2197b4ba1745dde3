"""Small models and batches that several tests use."""

from dataclasses import replace
from typing import Any

import torch

from condgen.base import Batch, Condition, ConditionalModel
from condgen.families import FAMILIES, build
from condgen.nn.config import ModulatedConfig, UNetConfig
from condgen.noise import NoiseSource, SampleId

TINY: dict[str, Any] = {"width": 8, "norm_groups": 4, "multipliers": [1, 2], "blocks_per_level": 1, "out_stride": 2}
FAMILY_NAMES = sorted(
    name
    for name, family in FAMILIES.items()
    if issubclass(family.config_class, UNetConfig) and not issubclass(family.config_class, ModulatedConfig)
)
"""The families that stand on the conditional U-Net alone; the others have tests of their own."""


def seeded_model(family: str, config: dict[str, Any], seed: int = 0) -> Any:
    """A model with reproducible weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(family, config)


def tiny(family: str, seed: int = 0, **config: Any) -> Any:
    """A model of a few thousand parameters with reproducible weights."""
    return seeded_model(family, {**TINY, **config}, seed)


def color_batch(num_samples: int, size: int = 16, seed: int = 0) -> Batch:
    """Smooth random pictures: L and ab at a quarter of the size, upsampled."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.empty(num_samples, 3, 4, 4).uniform_(-1, 1, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return Batch(condition=Condition(image=image[:, :1]), target=image[:, 1:] * 0.4, weight=torch.ones(num_samples))


def source(num_samples: int, num_draws: int = 1, seed: int = 0) -> NoiseSource:
    """The noise of samples 0, 1, ... of one shard."""
    return NoiseSource(seed, [SampleId("a.tar", f"{i:06d}") for i in range(num_samples)], range(num_draws))


def loss_of(model: ConditionalModel, batch: Batch) -> torch.Tensor:
    return torch.stack(list(model(batch).values())).sum()


def still(model: ConditionalModel) -> list[str]:
    """The parameters that no gradient reached."""
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def many_conditions(num_samples: int, size: int = 8) -> Batch:
    """Samples with labels 0, 1, 2, 0 and texts of up to three words, of which the third has none."""
    batch = color_batch(num_samples, size=size)
    text = torch.tensor([[1, 2, 0], [4, 3, 1], [0, 0, 0], [3, 0, 0]])[:num_samples]
    label = torch.arange(num_samples) % 3
    return replace(batch, condition=replace(batch.condition, label=label, text=text))
