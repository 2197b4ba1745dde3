from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import Tensor

from condgen.base import Condition, ConditionalModel, SampleOptions
from condgen.color.lab import normalize_l, rgb_to_lab
from condgen.errors import CheckpointError, ConfigError, UnsupportedError
from condgen.families import FAMILIES, build
from condgen.nn.config import UNetConfig
from condgen.nn.encoders import ENCODERS, PretrainedEncoder, _grey, pretrained
from condgen.preset_parts import TrainConfig
from condgen.training import Training
from tests.condgen.models import TINY, color_batch, seeded_model, source

ENCODED: dict[str, Any] = {"encoder": "mobilenet_v2", "norm_groups": 4, "decoder_widths": [4, 8, 8, 12, 12, 16]}
UNET = {**TINY, **ENCODED}
MODELS: dict[str, dict[str, Any]] = {
    "regression": UNET,
    "gaussian": UNET,
    "mixture": UNET,
    "color_classifier": UNET,
    "crf": UNET,
    "cvae": {**UNET, "attention_heads": 2},
    "diffusion": {**UNET, "attention_heads": 2, "steps": 2, "condition_dropout": 0.0},
    "cgan": {**ENCODED, "width": 8, "multipliers": [1, 2], "noise_dim": 4, "noise_width": 8, "discriminator_width": 8},
}


def encoded(family: str, **config: Any) -> ConditionalModel:
    model: ConditionalModel = seeded_model(family, {**MODELS[family], **config})
    return model


def losses(model: ConditionalModel) -> Tensor:
    batch = color_batch(2, size=32)
    return torch.stack([value for phase in model.phases for value in model(batch, phase).values()]).sum()


def encoder_of(model: ConditionalModel) -> PretrainedEncoder:
    encoder = pretrained(model)
    assert encoder is not None
    return encoder


def test_the_names_of_configurations_are_those_of_the_table() -> None:
    assert ("none", *ENCODERS) == get_args(get_type_hints(UNetConfig)["encoder"])


def test_luminance_is_given_as_the_grey_srgb_code_that_it_is_the_luminance_of() -> None:
    codes = torch.arange(256).float() / 255
    l_n = normalize_l(rgb_to_lab(codes.expand(3, 1, 256))[:1])
    torch.testing.assert_close(_grey(l_n[None])[0, 0, 0], codes, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_features_are_those_of_torchvisions_classifier_for_the_grey_image() -> None:
    from torchvision.models import mobilenet_v2

    torch.manual_seed(0)
    theirs = mobilenet_v2(weights=None).eval()
    encoder = PretrainedEncoder(ENCODERS["mobilenet_v2"], 0.0)
    encoder.load_pretrained(theirs.state_dict())
    grey = torch.rand(2, 1, 64, 64)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    want = theirs.features[:18]((grey.expand(-1, 3, -1, -1) - mean) / std)
    got = encoder(normalize_l(rgb_to_lab(grey.expand(-1, 3, -1, -1))[:, :1]))
    torch.testing.assert_close(got[-1], want, atol=1e-3, rtol=1e-3)
    assert [(tuple(f.shape[1:2]), 64 // f.shape[-1]) for f in got] == [
        ((16,), 2), ((24,), 4), ((32,), 8), ((96,), 16), ((320,), 32)
    ]  # fmt: skip


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"features\.0\.0\.weight missing.*give the file of torchvision's"):
        PretrainedEncoder(ENCODERS["mobilenet_v2"], 0.0).load_pretrained({"conv1.weight": torch.zeros(1)})


@pytest.mark.slow
@pytest.mark.parametrize("family", MODELS)
def test_every_color_family_takes_the_encoder_and_draws_at_any_size(family: str) -> None:
    model = encoded(family).eval()
    for size in ((32, 32), (33, 47)):
        image = torch.rand(2, 1, *size) * 2 - 1
        got = model.sample(Condition(image=image), source(2), SampleOptions())
        assert got.shape == (2, 1, 2, *size)
        assert bool(got.isfinite().all())


@pytest.mark.parametrize("family", MODELS)
def test_a_frozen_encoder_is_not_trained_and_all_else_is(family: str) -> None:
    model = encoded(family)
    losses(model).backward()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    inside = {id(p) for p in encoder_of(model).parameters()}
    assert frozen == {name for name, p in model.named_parameters() if id(p) in inside}
    still = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert still == []


@pytest.mark.parametrize("family", ["regression", "diffusion", "cgan"])
def test_an_encoder_with_a_rate_is_trained_at_that_share_of_it(family: str) -> None:
    model = encoded(family, encoder_rate=0.1)
    training = Training(model, TrainConfig(learning_rate=1e-2, warmup_steps=0, ema_decay=0.0))
    inside = {id(p) for p in encoder_of(model).parameters()}
    training.step(color_batch(2, size=32), 0)
    for optimizer in training.optimizers.values():
        for group in optimizer.param_groups:
            slow = {id(p) in inside for p in group["params"]}
            assert len(slow) == 1
            assert group["lr"] == pytest.approx(1e-3 if slow.pop() else 1e-2, rel=0.2)
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in encoder_of(model).parameters())


def test_batch_norms_keep_their_statistics_in_training() -> None:
    model = encoded("regression", encoder_rate=1.0).train()
    before = {name: value.clone() for name, value in encoder_of(model).named_buffers()}
    losses(model).backward()
    assert not encoder_of(model).training
    for name, value in encoder_of(model).named_buffers():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("family", MODELS)
def test_a_sample_does_not_depend_on_its_batch(family: str) -> None:
    model, image = encoded(family).eval(), torch.rand(3, 1, 32, 32) * 2 - 1
    together = model.sample(Condition(image=image), source(3), SampleOptions())
    alone = model.sample(Condition(image=image[:1]), source(1), SampleOptions())
    torch.testing.assert_close(together[:1], alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"encoder": "mobilenet"}, r"model.encoder: got 'mobilenet'.*did you mean 'mobilenet_v2'"),
        ({"encoder_rate": -1.0}, "model.encoder_rate"),
        ({"decoder_widths": [8, 8]}, "model.decoder_widths: got .* allowed: 6 multiples of model.norm_groups"),
        ({"decoder_widths": [8, 8, 8, 8, 8, 9]}, "model.decoder_widths"),
        ({"condition_channels": 3}, "'none' unless x is a luminance"),
    ],
)
@pytest.mark.parametrize("family", ["regression", "cgan"])
def test_a_wrong_encoder_is_a_config_error(family: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(family, {**MODELS[family], **config})


def test_a_network_with_more_levels_than_strides_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="at most 5: the encoder's strides end at 32"):
        build("diffusion", {**MODELS["diffusion"], "multipliers": [1] * 6})


def test_the_table_says_what_each_family_needs() -> None:
    assert sorted(MODELS) == sorted(n for n, f in FAMILIES.items() if "encoder" in f.config_class.__dataclass_fields__)


HEAD = {"point_head": "bins", "data_scale": 0.2, "parametrization": "flow", "uniform_times": 0.2}


@pytest.mark.slow
def test_a_point_head_learns_four_images_by_heart_and_the_denoiser_is_told() -> None:
    model, batch = encoded("diffusion", **HEAD, point_weight=1.0, encoder_rate=1.0), color_batch(4, size=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        terms = model(batch)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    assert sorted(terms) == ["cross_entropy", "denoising"]
    point = model.eval().sample(batch.condition, source(4), SampleOptions(mode="point"))[:, 0]
    error, plain = float((point - batch.target).abs().mean()), float(batch.target.abs().mean())
    assert error < 0.4 * plain
    told = model.told.weight.grad  # type: ignore[union-attr]
    assert float(told.abs().sum()) > 0


def test_without_a_weight_the_denoiser_is_left_as_it_is() -> None:
    model = encoded("diffusion", **HEAD, denoising_weight=0.0)
    terms = model(color_batch(2, size=32))
    assert list(terms) == ["cross_entropy"]
    terms["cross_entropy"].backward()
    assert all(p.grad is None for p in model.net.parameters())  # type: ignore[union-attr]


def test_a_point_heads_categories_are_its_own_bins() -> None:
    model, batch = encoded("diffusion", **HEAD).eval(), color_batch(2, size=32)
    log_p, bins = model.categories(batch.condition, batch.target)
    assert log_p.shape == (2, 256, 313)
    torch.testing.assert_close(log_p.logsumexp(dim=-1), torch.zeros(2, 256), atol=1e-4, rtol=0)
    small = torch.nn.functional.avg_pool2d(batch.target, 2) * 110
    gap = small.flatten(2).mT - model.point_head.bins.centers[bins]  # type: ignore[union-attr, index]
    assert float(gap.norm(dim=-1).max()) < 10
    with pytest.raises(UnsupportedError, match="no categories"):
        encoded("diffusion").categories(batch.condition, batch.target)


def test_a_point_head_without_an_encoder_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"'none' without model\.encoder"):
        build("diffusion", {**MODELS["diffusion"], "encoder": "none", "point_head": "bins"})


def test_a_median_is_the_color_of_least_expected_distance() -> None:
    from condgen.color.ab_bins import AbBins

    bins = AbBins()
    torch.manual_seed(0)
    modes = 40 * torch.randn(3, 2, 2, 2)  # two Gaussians a pixel, of weights 0.7 and 0.3
    squared = (modes[..., None, :] - bins.centers).square().sum(dim=-1)
    p = (torch.softmax(-squared / 200, dim=-1) * torch.tensor([0.7, 0.3])[:, None]).sum(dim=-2)
    median = bins.decode_median(p).movedim(-3, -1)
    mean = bins.decode_mean(p).movedim(-3, -1)

    def cost(color: Tensor) -> Tensor:
        return (p * (color[..., None, :] - bins.centers).norm(dim=-1)).sum(dim=-1)

    steps = [torch.tensor([dx, dy]) for dx in np.linspace(-4, 4, 5) for dy in np.linspace(-4, 4, 5)]
    best = torch.stack([cost(median + step.float()) for step in steps]).amin(dim=0)
    assert bool((cost(median) <= best + 0.05).all())
    assert bool((cost(median) <= cost(mean) + 1e-4).all())
    assert float((cost(mean) - cost(median)).max()) > 0.1


def test_a_distribution_on_one_bin_has_it_as_its_median() -> None:
    from condgen.color.ab_bins import AbBins

    bins = AbBins()
    p = torch.zeros(1, 1, len(bins))
    p[..., 17] = 1.0
    torch.testing.assert_close(bins.decode_median(p)[:, 0, 0], bins.centers[17])
