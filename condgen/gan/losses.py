"""Adversarial losses by name, R1, and the mode-seeking term: per-sample numbers, to be averaged with weights.

With s = D(...) a patch's score before any sigmoid (each patch is a sample of the discriminator):

    non_saturating   D: softplus(-s_real) + softplus(s_fake)      G: softplus(-s_fake)    Goodfellow et al. 2014
    lsgan            D: (s_real - 1)^2 + s_fake^2                 G: (s_fake - 1)^2       Mao et al. 2017, eq. (9)
    hinge            D: relu(1 - s_real) + relu(1 + s_fake)       G: -s_fake              Miyato et al. 2018, eq. (16)
    wasserstein      D: -s_real + s_fake                          G: -s_fake              Arjovsky et al. 2017, eq. (2)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["GAN_LOSSES", "GanLoss", "mode_seeking", "r1_penalty"]


@dataclass(frozen=True)
class GanLoss:
    """Three functions of scores, element by element: the discriminator's on true and made y, the generator's."""

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


GAN_LOSSES: Mapping[str, GanLoss] = MappingProxyType(
    {
        "non_saturating": GanLoss(lambda s: F.softplus(-s), F.softplus, lambda s: F.softplus(-s)),
        "lsgan": GanLoss(lambda s: (s - 1).square(), torch.square, lambda s: (s - 1).square()),
        "hinge": GanLoss(lambda s: F.relu(1 - s), lambda s: F.relu(1 + s), torch.neg),
        "wasserstein": GanLoss(torch.neg, lambda s: s, torch.neg),
    }
)
"""The losses by name; LSGAN's labels are 1 and 0, and its halves are the discriminator's scale."""


def r1_penalty(discriminate: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Return |grad_y D(y)|^2, the mean over an image's patches, ``[B]`` float32 (Mescheder et al. 2018, eq. 9).

    A patch's gradient is not formed alone: the gradient of the patches' sum under random signs has, in expectation,
    the sum of their squares as its square. With one patch this is exact.

    Args:
        discriminate: y ``[B, C, H, W]`` to scores ``[B, 1, h, w]``.
        real: true y.
    """
    # Squares of gradients leave half precision's range.
    with torch.enable_grad(), torch.autocast(real.device.type, enabled=False):
        y = real.detach().float().requires_grad_(True)
        scores = discriminate(y)
        signs = torch.randint_like(scores, 2) * 2 - 1
        [gradient] = torch.autograd.grad((scores * signs).sum(), [y], create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)) / scores.shape[-2:].numel()


def mode_seeking(first: Tensor, second: Tensor, z_first: Tensor, z_second: Tensor) -> Tensor:
    """Return d(z1, z2) / d(y1, y2), ``[B]`` float32: large where different noise makes the same image.

    Distances are mean absolute differences (Mao et al. 2019, "Mode seeking generative adversarial networks for
    diverse image synthesis", arXiv:1903.05628, whose code minimizes the inverse of its ratio as this does).

    Args:
        first, second: G(x, z1) and G(x, z2), ``[B, C, H, W]``.
        z_first, z_second: ``[B, D]``.
    """
    between_images = (first - second).abs().float().mean(dim=(1, 2, 3))
    between_noises = (z_first - z_second).abs().float().mean(dim=1)
    return 1.0 / (between_images / between_noises + 1e-5)
