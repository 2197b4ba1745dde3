"""Networks that model families are built from.

config.py        ``UNetConfig`` and ``ModulatedConfig``, the fields that their configurations have in common
unet.py          a conditional U-Net at a fraction of the image's size
denoiser.py      a U-Net whose every block is modulated by a vector, for K draws of each sample
encoders.py      encoders trained on ImageNet, and decoders over their features
color_head.py    a classifier of each pixel's color on another network's features
conditioners.py  labels and texts as vectors and tokens
transformer.py   transformer blocks with a cache of keys and values
tokens.py        texts as tokens, by hashing words

The configurations and ``tokenize`` import no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from condgen.nn.color_head import PointHead
    from condgen.nn.conditioners import (
        Conditioner,
        ConditionerSet,
        FrozenText,
        LabelEmbedding,
        TextEncoder,
        make_conditioners,
    )
    from condgen.nn.config import ModulatedConfig, UNetConfig
    from condgen.nn.denoiser import ConditionEncoder, ModulatedUNet
    from condgen.nn.encoders import ENCODERS, PretrainedEncoder, pretrained
    from condgen.nn.tokens import tokenize
    from condgen.nn.transformer import TransformerBlock
    from condgen.nn.unet import UNet, conditional_unet, pool_to_stride, upsample_from_stride
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "color_head": ["PointHead"],
            "conditioners": [
                "Conditioner",
                "ConditionerSet",
                "FrozenText",
                "LabelEmbedding",
                "TextEncoder",
                "make_conditioners",
            ],
            "config": ["ModulatedConfig", "UNetConfig"],
            "denoiser": ["ConditionEncoder", "ModulatedUNet"],
            "encoders": ["ENCODERS", "PretrainedEncoder", "pretrained"],
            "tokens": ["tokenize"],
            "transformer": ["TransformerBlock"],
            "unet": ["UNet", "conditional_unet", "pool_to_stride", "upsample_from_stride"],
        },
    )

__all__ = [
    "ENCODERS",
    "ConditionEncoder",
    "Conditioner",
    "ConditionerSet",
    "FrozenText",
    "LabelEmbedding",
    "ModulatedConfig",
    "ModulatedUNet",
    "PointHead",
    "PretrainedEncoder",
    "TextEncoder",
    "TransformerBlock",
    "UNet",
    "UNetConfig",
    "conditional_unet",
    "make_conditioners",
    "pool_to_stride",
    "pretrained",
    "tokenize",
    "upsample_from_stride",
]
