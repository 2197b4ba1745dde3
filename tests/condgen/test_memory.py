"""The estimate of training's memory."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.memory import estimate_training_memory
from condgen.noise import NoiseSource
from condgen.preset_parts import TrainConfig


@dataclass(frozen=True)
class Config:
    """Nothing."""


class Two(ConditionalModel):
    """Two convolutions and a sine between them: what each keeps can be counted by hand."""

    family = "two"
    is_stochastic = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.first = nn.Conv2d(1, 4, 1, bias=False)
        self.second = nn.Conv2d(4, 2, 1, bias=False)

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:
        hidden = self.first(batch.condition.image)
        return {"sum": self.second(torch.sin(hidden)).sum()}

    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        raise NotImplementedError


def test_what_is_kept_is_counted_once_and_grows_with_the_batch() -> None:
    batch = Batch(
        condition=Condition(image=torch.rand(1, 1, 8, 8)), target=torch.rand(1, 2, 8, 8), weight=torch.ones(1)
    )
    config = TrainConfig(ema_decay=0.9)
    found = estimate_training_memory(Two(Config()), batch, config, num_samples=3)
    # The input of the first, of the sine and of the second, float32; weights are no activations.
    assert found.activations == 3 * 4 * (64 + 4 * 64 + 4 * 64)
    assert found.model == 5 * 4 * (4 + 8)  # weights, gradients, two moments, the average
    assert found.total == found.model + found.activations
    plain = estimate_training_memory(Two(Config()), batch, TrainConfig(ema_decay=0.0), num_samples=1)
    assert plain.model == 4 * 4 * (4 + 8)
    half = estimate_training_memory(Two(Config()), batch, TrainConfig(precision="bf16"), num_samples=1)
    assert half.activations < plain.activations
