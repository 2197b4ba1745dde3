"""Noise made by PyTorch's operations on the device at hand: the uniforms of the CPU, and its normals but for last bits.

Without a GPU these run on the CPU alone.
"""

import pytest
import torch

from condgen.noise import NoiseSource, SampleId

SAMPLES = [SampleId("shard", "0"), None, SampleId("shard", "1")]


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    return torch.device(request.param)


def test_uniforms_are_those_of_the_cpu(device: torch.device) -> None:
    there = NoiseSource(3, SAMPLES, range(3), device).uniform((2, 65, 33), step=1, stream=2)
    assert there.device.type == device.type
    assert torch.equal(there.cpu(), NoiseSource(3, SAMPLES, range(3)).uniform((2, 65, 33), step=1, stream=2))


def test_normals_are_those_of_the_cpu_but_for_last_bits(device: torch.device) -> None:
    there = NoiseSource(3, SAMPLES, range(3), device).normal((2, 65, 33), step=1).cpu()
    here = NoiseSource(3, SAMPLES, range(3)).normal((2, 65, 33), step=1)
    torch.testing.assert_close(there, here, rtol=2e-7, atol=1e-12)
    assert (there != here).double().mean() < 1e-4
