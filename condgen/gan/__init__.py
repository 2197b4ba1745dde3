"""Adversarial training: what the families ``cgan``, ``pix2pix`` and ``cyclegan`` share.

config.py           ``AdversarialConfig``, the fields that their configurations have in common
losses.py           adversarial losses by name, R1, and the mode-seeking term
critic.py           a discriminator with its loss, and the pool of earlier images
generator.py        the base of image-to-image generators, whose dropout can be a draw's noise
networks.py         the U-Net and the patch discriminator of Isola et al. 2017
layers.py           layers, padding and initial weights of their networks
preset_settings.py  settings that their presets share

Networks that one family alone has are in its folder. The configuration and the settings import no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from condgen.gan.config import AdversarialConfig
    from condgen.gan.critic import Critic, ImagePool
    from condgen.gan.generator import Generator, dropout_draws, translate
    from condgen.gan.layers import initialize
    from condgen.gan.losses import GAN_LOSSES, GanLoss, mode_seeking, r1_penalty
    from condgen.gan.networks import PatchDiscriminator, SkipUNet
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "config": ["AdversarialConfig"],
            "critic": ["Critic", "ImagePool"],
            "generator": ["Generator", "dropout_draws", "translate"],
            "layers": ["initialize"],
            "losses": ["GAN_LOSSES", "GanLoss", "mode_seeking", "r1_penalty"],
            "networks": ["PatchDiscriminator", "SkipUNet"],
        },
    )

__all__ = [
    "GAN_LOSSES",
    "AdversarialConfig",
    "Critic",
    "GanLoss",
    "Generator",
    "ImagePool",
    "PatchDiscriminator",
    "SkipUNet",
    "dropout_draws",
    "initialize",
    "mode_seeking",
    "r1_penalty",
    "translate",
]
