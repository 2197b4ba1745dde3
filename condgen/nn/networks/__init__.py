"""The adversarial families' networks, written from their papers and equal to them in their parameters' numbers."""

from __future__ import annotations

from condgen.nn.networks.cyclegan import ResidualGenerator
from condgen.nn.networks.discogan import EncoderDecoder, EncoderDiscriminator
from condgen.nn.networks.generator import Generator, translate
from condgen.nn.networks.layers import initialise
from condgen.nn.networks.modulated import NoiseUNet
from condgen.nn.networks.pix2pix import PatchDiscriminator, SkipUNet

__all__ = [
    "EncoderDecoder",
    "EncoderDiscriminator",
    "Generator",
    "NoiseUNet",
    "PatchDiscriminator",
    "ResidualGenerator",
    "SkipUNet",
    "initialise",
    "translate",
]
