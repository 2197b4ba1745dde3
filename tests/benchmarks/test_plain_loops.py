"""benchmarks/plain_loops.py: the loop that training is measured against is the same training."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import plain_loops

from condgen.base import Batch, Condition
from condgen.families import build
from condgen.preset_parts import TrainConfig
from condgen.training import Training

TINY: dict[str, Any] = {"width": 4, "discriminator_width": 4, "norm_groups": 2, "patch_px": 16}
MODELS: dict[str, dict[str, Any]] = {
    "pix2pix": {**TINY, "depth": 3, "dropout": 0.0, "dropout_noise": False},
    "cyclegan": {**TINY, "blocks": 1, "pool_size": 0, "pool_px": 16},
}


@pytest.mark.slow
@pytest.mark.parametrize("family", MODELS)
def test_the_plain_loop_has_the_losses_and_the_gradients_of_training(family: str) -> None:
    torch.manual_seed(0)
    model = build(family, MODELS[family]).train()
    x, y = (torch.rand(2, c, 16, 16) * 2 - 1 for c in (model.config.condition_channels, model.config.target_channels))
    batch = Batch(condition=Condition(image=x), target=y, weight=torch.ones(2))
    config = TrainConfig(warmup_steps=0, learning_rate=1e-3, weight_decay=0.0, grad_clip_norm=0.0, schedule="linear")
    training, plain = Training(copy.deepcopy(model), config), copy.deepcopy(model)
    terms = training.step(batch, 0)
    first, *_ = losses = plain_loops.plain_step(plain, config)(batch)
    per_phase = [sum(v for name, v in terms.items() if name.startswith("d_") == judges) for judges in (True, False)]
    phases = list(model.phases)
    assert len(losses) == len(phases)
    torch.testing.assert_close(first, per_phase["discriminator" not in phases[0]])
    # The gradients of the first phase are alike; the later one judges what was made before.
    names = {id(p): name for name, p in model.named_parameters()}
    for name in (names[id(p)] for p in model.phases[phases[0]]):
        ours, theirs = training.model.get_parameter(name).grad, plain.get_parameter(name).grad
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
