"""World "shirts" and adversarial training: a conditional GAN with noise, and the same with an L1 term.

G makes no noise of its own a pixel, and a discriminator that is free to look for the world's tells all that it makes
by it: training then goes round the modes. R1 in every second step keeps it smooth, and a trace of the mode-seeking
term keeps G from one mode in the first steps; more of it makes colors between the modes.

Broken, it fails: without the mode-seeking term, R1 at every fourth step and half the rate, one mode is left (both modes
in 0 of inputs, off-mode 0.45 to 0.9, two seeds); with the term at 2e-3 off-mode is 0.39, at 2e-4 0.13. The L1 claim
fails without the L1 term (both modes in all inputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from condgen.worlds.shirts import mode_shares
from jobs.chapter.claims import Bound, Claim, Experiment, ExperimentNumbers, at_least, at_most
from jobs.chapter.shirts import batch, draw, held_out, images
from jobs.chapter.training import train

__all__ = ["EXPERIMENTS"]

_GAN: Mapping[str, Any] = {
    "width": 16,
    "discriminator_width": 16,
    "patch_px": 34,
    "multipliers": (1, 2),
    "noise_dim": 4,
    "noise_width": 64,
    "r1_gamma": 1.0,
    "r1_every": 2,
    "diversity_weight": 1e-5,
}
_TRAINING: Mapping[str, Any] = {
    "learning_rate": 2e-3,
    "adam_betas": (0.0, 0.99),
    "weight_decay": 0.0,
    "grad_clip_norm": 0.0,
}


def _measured(seed: int, steps: int, config: Mapping[str, Any]) -> ExperimentNumbers:
    model = train("cgan", {**_GAN, **config}, batch, seed=seed, steps=steps, **_TRAINING)
    shirts = held_out()
    made = draw(model, shirts, 16)
    found = mode_shares(made, shirts.mask)
    numbers = {
        "agreement": found.agreement,
        "off-mode": found.off_mode,
        "minority weight": 1 - found.weight,
        "both modes": found.both,
    }
    return ExperimentNumbers(numbers=numbers, images={"x, y, draws": images(shirts, made)})


def _gan(seed: int, effort: float) -> ExperimentNumbers:
    return _measured(seed, round(2100 * effort), {})


def _gan_l1(seed: int, effort: float) -> ExperimentNumbers:
    return _measured(seed, round(300 * effort), {"l1_weight": 10.0})


_BOTH: tuple[Bound, ...] = (
    at_least("agreement", 0.97),
    at_most("off-mode", 0.05),
    at_least("minority weight", 0.2),
    at_most("minority weight", 0.5),
    at_least("both modes", 0.9),
)

EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        name="cgan",
        world="shirts",
        run=_gan,
        quick_effort=0.0,
        minutes=2.8,
        claims=(Claim(text="a conditional GAN with noise has joint structure and both modes", bounds=_BOTH, needed=2),),
    ),
    Experiment(
        name="cgan-l1",
        world="shirts",
        run=_gan_l1,
        minutes=0.5,
        claims=(Claim(text="an L1 term takes its diversity away", bounds=(at_most("both modes", 0.05),)),),
    ),
)
