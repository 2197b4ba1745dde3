"""The blocks of the U-Net that diffusion and the cVAE share."""

import torch

from condgen.families.diffusion.config import DiffusionConfig
from condgen.nn.denoiser import Block


def test_what_is_computed_in_place_without_gradients_is_the_same_and_leaves_the_input_alone() -> None:
    block = Block(8, 16, DiffusionConfig(width=8, norm_groups=4), embedding_width=6)
    x, embedding = torch.randn(2, 8, 5, 5), torch.randn(2, 6)
    before = x.clone(), embedding.clone()
    with torch.no_grad():
        in_place = block(x, embedding)
    assert torch.equal(in_place, block(x, embedding))
    assert torch.equal(x, before[0])
    assert torch.equal(embedding, before[1])
