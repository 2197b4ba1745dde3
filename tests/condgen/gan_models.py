"""Small adversarial models of every kind, and their steps, that several tests use."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from condgen.base import Batch, ConditionalModel, SampleOptions
from tests.condgen.models import color_batch, seeded_model

DRAW = SampleOptions()
POINT = SampleOptions(mode="point")
SMALL: dict[str, Any] = {"width": 8, "discriminator_width": 8, "norm_groups": 4, "patch_px": 16, "init_std": 0.1}
UNPAIRED: dict[str, Any] = {"condition_channels": 1, "target_channels": 2, "identity_weight": 0.0, "pool_px": 16}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "cgan": ("cgan", {"multipliers": [1, 2], "noise_dim": 4, "noise_width": 16, "r1_every": 2}),
    "cgan, all terms": (
        "cgan",
        {"multipliers": [1, 2], "diversity_weight": 0.1, "l1_weight": 1.0, "spectral_norm": True, "gan_loss": "hinge"},
    ),
    "cgan, unconditional": ("cgan", {"multipliers": [1], "conditional_discriminator": False, "gan_loss": "lsgan"}),
    "pix2pix": ("pix2pix", {"depth": 3}),
    "pix2pix, without noise": ("pix2pix", {"depth": 3, "dropout_noise": False, "norm": "instance"}),
    "pix2pix, paper": (
        "pix2pix",
        {"depth": 3, "norm": "batch", "discriminator_norm": "batch", "upsampling": "transposed", "padding": "zero"},
    ),
    "cyclegan": ("cyclegan", {**UNPAIRED, "blocks": 1, "pool_size": 3}),
    "cyclegan, same channels": (
        "cyclegan",
        {**UNPAIRED, "target_channels": 1, "identity_weight": 0.5, "blocks": 1, "norm": "group", "pool_size": 3},
    ),
    "dualgan": (
        "cyclegan",
        {**UNPAIRED, "generator": "unet", "depth": 3, "dropout": 0.5, "dropout_noise": True}
        | {"gan_loss": "wasserstein", "clip_weights": 0.05, "critic_steps": 3, "pool_size": 0},
    ),
    "discogan": (
        "cyclegan",
        {**UNPAIRED, "generator": "encoder_decoder", "discriminator": "encoder", "depth": 3, "cycle_loss": "l2"}
        | {"gan_loss": "non_saturating", "pool_size": 0, "norm": "batch", "discriminator_norm": "batch"},
    ),
}
NOISY = [kind for kind in KINDS if kind.startswith("cgan") or kind in ("pix2pix", "pix2pix, paper", "dualgan")]


def small(kind: str, seed: int = 0, **config: Any) -> ConditionalModel:
    family, settings = KINDS[kind]
    model: ConditionalModel = seeded_model(family, {**SMALL, **settings, **config}, seed)
    return model


def batch_for(model: ConditionalModel, num_samples: int = 2, size: int = 16) -> Batch:
    batch = color_batch(num_samples, size)
    return replace(batch, target=batch.target[:, : model.config.target_channels])


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def step(model: ConditionalModel, batch: Batch, optimizers: dict[str, torch.optim.Optimizer], number: int = 0) -> None:
    """One step of every phase that is due, as the training loop does it."""
    torch.manual_seed(number)
    for name, optimizer in optimizers.items():
        if (number + 1) % model.phase_periods.get(name, 1):
            continue
        optimizer.zero_grad()
        total(model(batch, name)).backward()
        optimizer.step()


def adam(model: ConditionalModel, rate: float = 2e-3) -> dict[str, torch.optim.Optimizer]:
    phases = model.phases.items()
    return {name: torch.optim.Adam(list(p), lr=rate, betas=(0.5, 0.999)) for name, p in phases}
