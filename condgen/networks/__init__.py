"""The adversarial families' networks, written from their papers and equal to them in their parameters' numbers."""

from __future__ import annotations

from condgen.networks.cyclegan import ResidualGenerator
from condgen.networks.discogan import EncoderDecoder, EncoderDiscriminator
from condgen.networks.generator import Generator, translate
from condgen.networks.layers import initialise
from condgen.networks.modulated import NoiseUNet
from condgen.networks.pix2pix import PatchDiscriminator, SkipUNet

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
