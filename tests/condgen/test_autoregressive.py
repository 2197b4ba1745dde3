import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from condgen.base import Batch, Condition, SampleOptions
from condgen.errors import UnsupportedError
from condgen.families.autoregressive.model import Autoregressive, filter_logits
from tests.condgen import checks
from tests.condgen.models import color_batch, loss_of, many_conditions, seeded_model, source, still

SMALL: dict[str, Any] = {"width": 16, "heads": 2, "layers": 2, "out_stride": 2, "patch_px": 4}
BINS = {**SMALL, "tokens": "bins", "num_bins": 5}
DRAW = SampleOptions()


def transformer(seed: int = 0, *, sharp: float = 30.0, **config: Any) -> Autoregressive:
    model: Autoregressive = seeded_model("autoregressive", {**SMALL, **config}, seed)
    with torch.no_grad():  # odds that are far from even, as those of a trained model
        model.head.weight.mul_(sharp)
    return model.eval()


def tiny_space(**config: Any) -> tuple[Autoregressive, Tensor]:
    """A model of 2 x 2 pixels, one channel, three levels, and all its 81 y."""
    model = transformer(target_channels=1, tokens="bins", num_bins=3, out_stride=1, patch_px=1, sharp=60.0, **config)
    tokens = torch.tensor(list(itertools.product(range(3), repeat=4)))
    return model, model.dequantize(tokens, (2, 2))


def image(num: int, size: int = 2) -> Condition:
    return Condition(image=torch.tensor([0.3, -0.8, 0.1, 0.9]).reshape(1, 1, 2, 2).expand(num, 1, size, size))


def test_probabilities_of_all_y_sum_to_one() -> None:
    model, every_y = tiny_space()
    log_p = model.log_prob(image(81), every_y)
    assert float(log_p.max() - log_p.min()) > 2  # far from uniform
    assert abs(float(log_p.double().exp().sum()) - 1) < 1e-5
    free, every_y = tiny_space(condition_channels=0, size_px=2)
    anything = Condition(label=torch.zeros(81, dtype=torch.int64))
    assert abs(float(free.log_prob(anything, every_y).double().exp().sum()) - 1) < 1e-5


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.6, 2)])
def test_draws_have_the_frequencies_that_log_prob_gives(temperature: float, top_k: int | None) -> None:
    model, every_y = tiny_space()
    num = 5000
    tokens = model.quantize(every_y)
    shaped = filter_logits(model.logits(image(81), tokens).detach(), temperature, top_k, None).log_softmax(dim=-1)
    p = shaped.gather(-1, tokens[..., None])[..., 0].sum(dim=1).double().exp()
    if top_k is None and temperature == 1.0:
        torch.testing.assert_close(p.log().float(), model.log_prob(image(81), every_y))
    y = model.sample(image(1), source(1, num_draws=num), SampleOptions(temperature=temperature, top_k=top_k))[0]
    index = (model.quantize(y) * torch.tensor([27, 9, 3, 1])).sum(dim=1)
    counts = torch.bincount(index, minlength=81).double()
    assert float(counts[p == 0].sum()) == 0
    kept = p * num > 5
    freedom = int(kept.sum()) - 1
    assert freedom >= 4
    chi2 = float(((counts - p * num).square() / (p * num))[kept].sum())
    # Wilson and Hilferty: five standard deviations, which right frequencies exceed once in 3e6.
    assert chi2 < freedom * (1 - 2 / (9 * freedom) + 5 * math.sqrt(2 / (9 * freedom))) ** 3


def test_the_cache_gives_the_logits_of_the_whole_pass() -> None:
    """Greedy tokens of the cached steps are those of one pass over them, and so are draws by the same uniforms."""
    for config in (BINS, {**BINS, "aligned": True}, {"num_labels": 3, "text_vocabulary": 5}):
        model, batch = transformer(**config), color_batch(3, size=8)
        condition = replace(batch.condition, label=torch.tensor([0, 1, 2]), text=torch.tensor([[1, 2], [3, 0], [0, 0]]))
        for options in (SampleOptions(mode="point"), DRAW):
            noise = source(3, num_draws=2)
            with torch.no_grad():
                tokens = model._draw(model.prefix(condition), noise, options)
            uniform = noise.uniform((tokens.shape[-1],))
            for k in range(2):
                logits = model.logits(condition, tokens[:, k]).detach()
                cdf = logits.double().softmax(dim=-1).cumsum(dim=-1)
                drawn = torch.searchsorted(cdf, uniform[:, k, :, None].double(), right=True)[..., 0]
                expected = logits.argmax(dim=-1) if options.mode == "point" else drawn
                # A uniform within 1e-5 of a border may fall on either side: hardly ever in some 100 tokens.
                assert float((tokens[:, k] == expected).float().mean()) == 1


@torch.no_grad()
def test_a_token_depends_on_those_before_it_and_on_the_prefix_alone() -> None:
    model, batch = transformer(**BINS), color_batch(1, size=8)
    tokens = model.quantize(batch.target)
    logits = model.logits(batch.condition, tokens)
    for place in (0, 7, 31):
        changed = tokens.clone()
        changed[0, place] = (changed[0, place] + 1) % 5
        moved = (model.logits(batch.condition, changed) - logits).abs().amin(dim=-1)[0]
        assert float(moved[: place + 1].max()) == 0
        assert place == 31 or float(moved[place + 1]) > 0
    other = Condition(image=-batch.condition.image)
    assert float((model.logits(other, tokens) - logits).abs().amax(dim=-1).min()) > 1e-4


@pytest.mark.parametrize("config", [BINS, {**BINS, "aligned": True}, {**BINS, "num_labels": 3, "text_vocabulary": 5}])
def test_gradients_reach_every_parameter(config: dict[str, Any]) -> None:
    model = transformer(**config).train()
    loss_of(model, many_conditions(3)).backward()
    assert still(model) == []


def test_the_loss_is_minus_the_mean_log_prob_a_token() -> None:
    model, batch = transformer(**BINS), color_batch(2, size=8)
    expected = -model.log_prob(batch.condition, batch.target).mean() / 32
    torch.testing.assert_close(model(batch)["cross_entropy"], expected)
    padded = replace(batch, weight=torch.tensor([1.0, 0.0]))
    first = -model.log_prob(batch.condition, batch.target)[0] / 32
    torch.testing.assert_close(model(padded)["cross_entropy"], first)
    assert float(model(replace(batch, weight=torch.zeros(2)))["cross_entropy"].detach()) == 0


def test_levels_are_exact_for_8_bit_values_and_their_error_follows_their_width() -> None:
    y = (torch.arange(256.0) / 127.5 - 1).reshape(1, 1, 16, 16)
    errors = {}
    for num_bins in (8, 32, 256):
        model = transformer(target_channels=1, tokens="bins", num_bins=num_bins, out_stride=1)
        back = model.dequantize(model.quantize(y), (16, 16))
        errors[num_bins] = float((back - y).abs().max())
        assert errors[num_bins] <= 1 / (num_bins - 1) + 1e-6
    assert errors[256] < 1e-6 < 0.02 < errors[32] < errors[8]


def test_tokens_of_several_channels_come_back_in_their_places() -> None:
    model = transformer(target_channels=3, tokens="bins", num_bins=256, out_stride=1)
    y = torch.rand(2, 3, 3, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokens = model.quantize(y)
    assert tokens.shape == (2, 45)
    torch.testing.assert_close(model.dequantize(tokens, (3, 5)), y, atol=0.005, rtol=0)
    assert torch.equal(tokens[0, :3], ((y[0, :, 0, 0] + 1) * 127.5).round().long())


def test_colors_are_quantised_to_the_ab_grid() -> None:
    model, batch = transformer(), color_batch(2, size=8)
    small = torch.nn.functional.avg_pool2d(batch.target, 2)
    back = torch.nn.functional.avg_pool2d(model.dequantize(model.quantize(batch.target), (8, 8)), 2)
    assert model.quantize(batch.target).shape == (2, 16)
    assert float((back - small).abs().max()) * 110 < 25  # half a bin, and what upsampling smooths
    exact = transformer(out_stride=1)
    error = (exact.dequantize(exact.quantize(batch.target), (8, 8)) - batch.target).abs() * 110
    assert float(error.max()) <= 5.01


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert filter_logits(logits, 1.0, 2, None).isfinite().tolist() == [True, True, False, False]
    assert filter_logits(logits, 1.0, None, 0.5).isfinite().tolist() == [True, False, False, False]
    assert filter_logits(logits, 1.0, None, 0.51).isfinite().tolist() == [True, True, False, False]
    assert filter_logits(logits.flip(0), 1.0, 9, 0.9).isfinite().tolist() == [False, True, True, True]
    torch.testing.assert_close(filter_logits(logits, 2.0, None, 1.0), logits / 2)


def test_one_of_top_k_is_the_point() -> None:
    model, batch = transformer(**BINS), color_batch(2, size=8)
    point = model.sample(batch.condition, source(2), SampleOptions(mode="point"))
    assert torch.equal(model.sample(batch.condition, source(2), SampleOptions(top_k=1)), point)
    assert torch.equal(model.sample(batch.condition, source(2), SampleOptions(top_p=1e-6)), point)
    assert not torch.equal(model.sample(batch.condition, source(2), DRAW), point)


@pytest.mark.parametrize("config", [BINS, {}, {**BINS, "aligned": True}])
def test_draws_differ_and_each_is_the_same_alone_and_in_other_batches(config: dict[str, Any]) -> None:
    checks.draws_are_their_own(transformer(**config), color_batch(3, size=8))


@torch.no_grad()
def test_an_aligned_model_is_told_the_pixels_beside_a_token() -> None:
    model, batch = transformer(**{**BINS, "aligned": True}), color_batch(1)
    plain = model.prefix(batch.condition).beside
    assert plain.shape == (1, 8 * 8 * 2, 16)
    changed = batch.condition.image.clone()
    changed[..., 5, 9] += 1.0  # of the token's cell (2, 4)
    other = model.prefix(Condition(image=changed)).beside
    touched = (plain != other).any(dim=-1)[0].nonzero()[:, 0].tolist()
    assert touched == [2 * (2 * 8 + 4), 2 * (2 * 8 + 4) + 1]


@pytest.mark.parametrize("size", [(17, 30), (1, 1), (5, 3)])
def test_any_size_goes_in_and_comes_out(size: tuple[int, int]) -> None:
    checks.a_size_goes_in_and_comes_out(transformer(**{**BINS, "out_stride": 8}), size)


def test_a_loaded_model_draws_the_same_bits() -> None:
    checks.a_loaded_model_draws_the_same(transformer(seed=3), color_batch(2, size=8))


@pytest.mark.slow
def test_two_images_are_learned_by_heart() -> None:
    model, batch = transformer(**{**BINS, "num_bins": 32, "width": 32}, sharp=1.0).train(), color_batch(2, size=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for _ in range(250):
        optimizer.zero_grad()
        loss = model(batch)["cross_entropy"]
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.02 < math.log(32)
    got = model.eval().sample(batch.condition, source(2), DRAW)[:, 0]
    wanted = model.dequantize(model.quantize(batch.target), (8, 8))
    assert float((got - wanted).abs().mean()) < 0.03 < 0.1 < float(batch.target.abs().mean())
    assert float(model.log_prob(batch.condition, -batch.target).max()) < -100  # what it never saw is unlikely


def test_wrong_values_are_refused_by_name() -> None:
    cases: dict[str, dict[str, Any]] = {
        "model.tokens: got 'abc'": {"tokens": "abc"},
        "model.tokens": {"target_channels": 3},
        "model.width": {"width": 18},
        "model.num_bins": {"num_bins": 1},
        "model.aligned": {"aligned": True, "condition_channels": 0},
        "did you mean 'bag'": {"text_encoder": "bags"},
    }
    checks.wrong_values_are_refused("autoregressive", SMALL, cases)
    batch = color_batch(1)
    with pytest.raises(UnsupportedError, match="image"):
        transformer().sample(Condition(label=torch.zeros(1, dtype=torch.int64)), source(1), DRAW)
    with pytest.raises(UnsupportedError, match="text"):
        transformer(text_vocabulary=4)(Batch(condition=batch.condition, target=batch.target, weight=batch.weight))
