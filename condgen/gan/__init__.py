"""The adversarial families' networks, written from their papers and equal to them in their parameters' numbers."""

from __future__ import annotations

from condgen.families.cgan.network import NoiseUNet
from condgen.families.cyclegan.discogan import EncoderDecoder, EncoderDiscriminator
from condgen.families.cyclegan.networks import ResidualGenerator
from condgen.gan.generator import Generator, translate
from condgen.gan.layers import initialise
from condgen.gan.networks import PatchDiscriminator, SkipUNet

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
