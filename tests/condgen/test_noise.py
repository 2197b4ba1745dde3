import math

import numpy as np
import pytest
import torch

from condgen.device_noise import device_words
from condgen.errors import ConfigError
from condgen.noise import NoiseSource, SampleId, philox_words, sample_key

A, B = SampleId("train-000000.tar", "0001"), SampleId("train-000000.tar", "0002")

# Random123's known-answer tests (kat_vectors, philox4x64 with 10 rounds): counter, key, output.
KNOWN_ANSWERS = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        (2**64 - 1,) * 4,
        (2**64 - 1,) * 2,
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]

KEY_OF_A_STRANGE_NAME = (0x65C65B3EFEA82EEB, 0x5132BE9D5CE016A8)
FIRST_UNIFORMS = [0.5373378992080688, 0.169685959815979, 0.25021588802337646]
FIRST_NORMALS = [0.5388720035552979, 0.9756398797035217, 1.651394248008728]


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    """Philox4x64-10 as Salmon et al. 2011 define it (figure 2), in whole numbers."""
    mask, (c0, c1, c2, c3), (k0, k1) = 2**64 - 1, counter, key
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & mask, (p0 >> 64) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return [c0, c1, c2, c3]


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN_ANSWERS)
def test_the_reference_gives_random123s_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], output: tuple[int, ...]
) -> None:
    assert philox(counter, key) == list(output)


def test_raw_words_are_philox_blocks_from_1_at_draw_step_and_stream() -> None:
    key = (0x452821E638D01377, 0xBE5466CF34E90C6C)
    expected = philox((1, 7, 3, 2), key) + philox((2, 7, 3, 2), key)
    assert philox_words(key, (7, 3, 2), 6).tolist() == expected[:6]


def test_a_samples_key_is_fixed_for_good() -> None:
    # sha256 of [5,"a.tar","k\udcff"] as ASCII JSON: computed once, so that draws can be made again in years.
    assert sample_key(5, SampleId("a.tar", "k\udcff")) == KEY_OF_A_STRANGE_NAME


def test_uniforms_and_normals_are_fixed_for_good() -> None:
    source = NoiseSource(1, [A], [0])
    np.testing.assert_array_equal(source.uniform((3,)).numpy().ravel(), FIRST_UNIFORMS)
    np.testing.assert_allclose(source.normal((3,)).numpy().ravel(), FIRST_NORMALS, rtol=1e-6)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_a_draw_is_the_same_alone_and_among_others(kind: str) -> None:
    together = getattr(NoiseSource(3, [A, None, B], range(4)), kind)((2, 5), step=6, stream=1)
    alone = getattr(NoiseSource(3, [B], [2]), kind)((2, 5), step=6, stream=1)
    assert torch.equal(together[2, 2], alone[0, 0])
    assert torch.equal(together[1], torch.zeros(4, 2, 5))


def test_any_part_of_the_identity_changes_the_noise() -> None:
    base = NoiseSource(1, [A], [0]).normal((64,))
    others = [
        NoiseSource(2, [A], [0]).normal((64,)),
        NoiseSource(1, [B], [0]).normal((64,)),
        NoiseSource(1, [SampleId("x", A.key)], [0]).normal((64,)),
        NoiseSource(1, [A], [1]).normal((64,)),
        NoiseSource(1, [A], [0]).normal((64,), step=1),
        NoiseSource(1, [A], [0]).normal((64,), stream=1),
    ]
    for other in others:
        assert not torch.isclose(base, other).any()


def test_uniforms_are_in_0_to_1_on_24_bits_and_flat() -> None:
    u = NoiseSource(0, [A], [0]).uniform((1 << 18,)).double()
    assert 0 <= float(u.min()) < 1e-4
    assert 1 - 1e-4 < float(u.max()) < 1
    assert torch.equal(u * 2**24, (u * 2**24).round())
    # 64 cells of 4096 expected: chi-square with 63 degrees, above 160 once in 1e9 (the seed is fixed).
    counts = torch.histc(u, 64, 0, 1)
    assert float(((counts - 4096) ** 2 / 4096).sum()) < 160


def test_normals_have_the_moments_and_tails_of_a_normal() -> None:
    n = 1 << 18
    z = NoiseSource(0, [A], [0]).normal((n,)).double()
    # Six standard errors each: once in 5e8.
    assert abs(float(z.mean())) < 6 / math.sqrt(n)
    assert abs(float(z.var()) - 1) < 6 * math.sqrt(2 / n)
    assert abs(float((z**4).mean()) - 3) < 6 * math.sqrt(96 / n)
    assert abs(float((z.abs() > 2).double().mean()) - 0.0455) < 6 * math.sqrt(0.0455 / n)
    pairs = z.reshape(-1, 2)
    assert abs(float((pairs[:, 0] * pairs[:, 1]).mean())) < 6 / math.sqrt(n / 2)


@pytest.mark.parametrize("key", [(0, 0), (2**64 - 1, 2**63), (0x452821E638D01377, 0xBE5466CF34E90C6C)])
def test_a_device_makes_the_raw_words_of_the_cpu(key: tuple[int, int]) -> None:
    draws, step, stream = [0, 7, 2**63 + 5], 2**64 - 1, 3
    words = device_words([key, (1, 2)], draws, step, stream, 11, torch.device("cpu"))
    for place, draw in enumerate(draws):
        assert words[0, place].numpy().view(np.uint64).tolist() == philox_words(key, (draw, step, stream), 11).tolist()
        assert (
            words[1, place].numpy().view(np.uint64).tolist() == philox_words((1, 2), (draw, step, stream), 11).tolist()
        )


@pytest.mark.parametrize("shape", [(3, 7, 9), (5,), ()])
def test_noise_made_on_a_device_is_that_of_the_cpu(shape: tuple[int, ...]) -> None:
    samples, draws = [A, None, B], [0, 3]
    here, there = NoiseSource(5, samples, draws), NoiseSource(5, samples, draws, torch.device("cpu"))
    assert torch.equal(here.uniform(shape, step=2, stream=1), there.uniform(shape, step=2, stream=1))
    normals = there.normal(shape, step=2, stream=1)
    assert normals.dtype == torch.float32
    torch.testing.assert_close(normals, here.normal(shape, step=2, stream=1), rtol=2e-7, atol=0)
    alone = there.of_draw(3)
    assert alone.device is not None
    assert torch.equal(alone.uniform(shape), here.uniform(shape)[:, 1:])


@pytest.mark.parametrize("draws", [[], [-1]])
def test_draws_must_be_numbers_from_0(draws: list[int]) -> None:
    with pytest.raises(ConfigError, match="draws"):
        NoiseSource(0, [A], draws)


def test_an_odd_count_and_an_empty_shape_work() -> None:
    source = NoiseSource(0, [A, B], [0, 1, 2])
    assert source.normal((3, 5)).shape == (2, 3, 3, 5)
    assert source.uniform(()).shape == (2, 3)
