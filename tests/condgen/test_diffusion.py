import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from condgen.base import Batch, Condition, SampleOptions
from condgen.diffusion.paths import PARAMETRIZATIONS, CosinePath, ExplodingPath, LinearPath, Path
from condgen.diffusion.samplers import SAMPLERS, Denoise, find_sampler
from condgen.errors import ConfigError, UnsupportedError
from condgen.families.diffusion.config import DiffusionConfig
from condgen.families.diffusion.model import Diffusion
from tests.condgen import checks
from tests.condgen.models import TINY, color_batch, loss_of, many_conditions, source, still, tiny

NAMES = tuple(PARAMETRIZATIONS)
NUM = 20_000
MODES, WEIGHTS, NOISE = (0.7, -0.3), (0.65, 0.35), 0.03


def diffusion(seed: int = 0, **config: Any) -> Diffusion:
    model: Diffusion = tiny("diffusion", seed, **{"steps": 3, **config})
    return model


def gaussian(path: Path, mean: float = 0.3, std: float = 0.5) -> Denoise:
    """E[y_0 | y_t] of N(mean, std^2)."""

    def denoise(y: Tensor, t: float) -> Tensor:
        alpha, sigma = path.at(t)
        return mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (y - alpha * mean)

    return denoise


def two_modes(path: Path) -> Denoise:
    """E[y_0 | y_t] of a mixture of two narrow Gaussians."""
    (first, second), odds = MODES, math.log(WEIGHTS[0] / WEIGHTS[1])

    def denoise(y: Tensor, t: float) -> Tensor:
        alpha, sigma = path.at(t)
        variance = alpha**2 * NOISE**2 + sigma**2
        nearer = alpha * (first - second) / variance * (y - alpha * (first + second) / 2)
        mode = second + (first - second) * (odds + nearer).sigmoid()
        return mode + alpha * NOISE**2 / variance * (y - alpha * mode)

    return denoise


def draw(sampler: str, path: Path, denoise: Denoise, steps: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)

    def normal(step: int) -> Tensor:
        return torch.randn(NUM, generator=generator)

    first = path.at(path.times(steps)[0])[1] * normal(0)
    return SAMPLERS[sampler](denoise, path, steps, first, normal)


PATHS = {
    "exploding": ExplodingPath(),
    "cosine": CosinePath(),
    "short cosine": CosinePath(0.992),
    "linear": LinearPath(),
    "shifted linear": LinearPath(shift=2.0),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_a_gaussian_and_a_mixture_by_their_exact_scores(sampler: str, path: Path) -> None:
    steps = 400 if sampler in ("ddpm", "euler", "ddim") else 150
    y = draw(sampler, path, gaussian(path), steps)
    # Five standard errors of the mean (0.0035) and of the deviation (0.0025); the rest is the steps' own error.
    assert abs(float(y.mean()) - 0.3) < 0.018
    assert abs(float(y.std()) - 0.5) < 0.018
    y = draw(sampler, path, two_modes(path), steps)
    assert abs(float((y > 0.2).float().mean()) - WEIGHTS[0]) < 0.017 + 0.005  # 5 standard errors of 0.0034
    assert off_mode(y) < 0.001
    assert abs(float(y[y > 0.2].std()) - NOISE) < 0.005


def off_mode(y: Tensor) -> float:
    nearest = torch.stack([(y - mode).abs() for mode in MODES]).amin(dim=0)
    return float((nearest > 0.2).float().mean())


@pytest.mark.parametrize(("steps", "least", "most"), [(4, 0.46, 0.51), (6, 0.48, 0.51), (8, 0.485, 0.51)])
def test_four_to_eight_heun_steps_do_on_the_path_that_edm_takes_for_few(steps: int, least: float, most: float) -> None:
    parametrization = PARAMETRIZATIONS["edm"](DiffusionConfig())
    path = parametrization.sampling_path(steps)
    y = draw("heun", path, gaussian(path), steps)
    assert abs(float(y.mean()) - 0.3) < 0.02
    assert least < float(y.std()) < most
    y = draw("heun", path, two_modes(path), steps)
    assert abs(float((y > 0.2).float().mean()) - WEIGHTS[0]) < 0.025
    assert off_mode(y) < 0.01
    own = parametrization.sampling_path(18)
    assert own is parametrization.path
    assert off_mode(draw("heun", own, two_modes(own), steps)) > 0.012  # what the other path is for


def test_edms_denoiser_is_the_same_on_another_path() -> None:
    parametrization = PARAMETRIZATIONS["edm"](DiffusionConfig())
    path, y = parametrization.sampling_path(4), torch.linspace(-2, 2, 9)
    for t in path.times(4)[:-1]:
        moved, sigma = parametrization.onto_own(y, t, path)
        torch.testing.assert_close(gaussian(parametrization.path)(moved, sigma), gaussian(path)(y, t))


ORDERS = {"euler": 1, "ddim": 1, "heun": 2, "dpm-solver++": 2, "adams-bashforth": 2}


@pytest.mark.parametrize(("sampler", "order"), ORDERS.items())
def test_twice_the_steps_leave_a_half_or_a_quarter_of_the_error(sampler: str, order: int) -> None:
    path, std = ExplodingPath(sigma_min=1e-4, sigma_max=10.0), 0.5
    errors = []
    for steps in (40, 80):
        first = torch.tensor([12.0, -7.0, 3.0], dtype=torch.float64)
        y = SAMPLERS[sampler](gaussian(path, 0.3, std), path, steps, first, torch.zeros_like)  # type: ignore[arg-type]
        exact = 0.3 + (first - 0.3) * std / math.hypot(std, 10.0)  # the flow keeps a Gaussian's quantiles
        errors.append(float((y - exact).abs().mean()))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)


def test_shifted_times_have_so_many_times_the_odds() -> None:
    even, shifted = (LinearPath(shift=shift).times(5)[1:-1] for shift in (1.0, 3.0))
    for u, t in zip(even, shifted, strict=True):
        assert t / (1 - t) == pytest.approx(3 * u / (1 - u))


def test_a_flows_configuration_shifts_its_samplers_times() -> None:
    config = DiffusionConfig(parametrization="flow", time_shift=3.0)
    assert PARAMETRIZATIONS["flow"](config).sampling_path(4).times(4) == LinearPath(shift=3.0).times(4)


def test_two_steps_of_adams_and_bashforth_are_those_of_its_formula() -> None:
    path, first = LinearPath(shift=2.0), torch.tensor([1.5, -0.5], dtype=torch.float64)
    denoise = gaussian(path)
    (t0, t1, t2), y = path.times(2), first
    v0 = (y - denoise(y, t0)) / t0
    y = y + (t1 - t0) * v0
    v1 = (y - denoise(y, t1)) / t1
    y = y + (t2 - t1) * (v1 + (t2 - t1) / (2 * (t1 - t0)) * (v1 - v0))
    torch.testing.assert_close(SAMPLERS["adams-bashforth"](denoise, path, 2, first, torch.zeros_like), y)  # type: ignore[arg-type]


def test_one_euler_step_of_a_flow_gives_the_mean() -> None:
    path = LinearPath()
    y = draw("euler", path, two_modes(path), 1)
    mean = sum(m * w for m, w in zip(MODES, WEIGHTS, strict=True))
    torch.testing.assert_close(y, torch.full_like(y, mean))
    assert off_mode(y) == 1


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_rates_are_the_derivatives_and_times_go_down_to_data(path: Path) -> None:
    for t in (0.1, 0.5, 0.9):
        (alpha, sigma), (alpha_before, sigma_before) = path.at(t + 1e-5), path.at(t - 1e-5)
        slope = ((alpha - alpha_before) / 2e-5, (sigma - sigma_before) / 2e-5)
        assert path.rates(t) == pytest.approx(slope, abs=1e-6)
    for steps in (1, 4, 18):
        times = path.times(steps)
        assert len(times) == steps + 1
        assert list(times) == sorted(set(times), reverse=True)
        assert path.at(times[-1]) == (1, 0)


def test_edms_steps_are_those_of_its_equation_5() -> None:
    times = ExplodingPath().times(18)
    assert times[0] == pytest.approx(80)
    assert times[-2] == pytest.approx(0.002)
    middle = (80 ** (1 / 7) + 5 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert times[5] == pytest.approx(middle)


def test_edms_preconditioning_is_that_of_its_table_1() -> None:
    sigma = torch.tensor([0.002, 0.5, 3.0, 80.0], dtype=torch.float64)
    c = PARAMETRIZATIONS["edm"](DiffusionConfig()).coefficients(sigma)
    torch.testing.assert_close(c.skip, 0.25 / (sigma**2 + 0.25))
    torch.testing.assert_close(c.out, sigma * 0.5 / (sigma**2 + 0.25).sqrt())
    torch.testing.assert_close(c.noise, sigma.log() / 4)
    # Its requirements (appendix B.6): unit variance of the input and of the target, the least c_out.
    torch.testing.assert_close(c.input**2 * (0.25 + sigma**2), torch.ones_like(sigma))
    torch.testing.assert_close((1 - c.skip) ** 2 * 0.25 + c.skip**2 * sigma**2, c.out**2)
    # lambda c_out^2 = 1 with lambda = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2.
    torch.testing.assert_close((sigma**2 + 0.25) / (sigma * 0.5) ** 2 * c.out**2, torch.ones_like(sigma))


def test_edms_training_noise_is_log_normal() -> None:
    torch.manual_seed(0)
    log_sigma = PARAMETRIZATIONS["edm"](DiffusionConfig()).training_times(10_000, torch.device("cpu")).log()
    assert abs(float(log_sigma.mean()) + 1.2) < 0.06  # five standard errors
    assert abs(float(log_sigma.std()) - 1.2) < 0.045
    even = PARAMETRIZATIONS["edm"](DiffusionConfig(uniform_times=0.5)).training_times(10_000, torch.device("cpu"))
    late = 0.5 * math.log(8) / math.log(40_000)  # above 10, where a log-normal has 2 in 1,000
    assert abs(float((even > 10).float().mean()) - late - 0.5 * 0.0018) < 0.016  # five standard errors


def test_a_flows_training_times_are_logit_normal_but_for_a_uniform_share() -> None:
    for share in (0.0, 0.3):
        torch.manual_seed(0)
        config = DiffusionConfig(parametrization="flow", uniform_times=share)
        t = PARAMETRIZATIONS["flow"](config).training_times(20_000, torch.device("cpu"))
        assert abs(float(t.mean()) - 0.5) < 0.01
        # Above 0.95: a normal's tail beyond 2.944, and of the uniform ones a twentieth; five standard errors.
        late = (1 - share) * 0.00162 + share * 0.05
        assert abs(float((t > 0.95).float().mean()) - late) < 5 * math.sqrt(late / 20_000)


@pytest.mark.parametrize("name", NAMES)
def test_the_target_of_a_parametrisation_is_what_its_name_says(name: str) -> None:
    parametrization = PARAMETRIZATIONS[name](DiffusionConfig(parametrization=name))  # type: ignore[arg-type]
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    alpha, sigma = parametrization.path.alpha_sigma(t)
    y0, eps = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y, c = alpha * y0 + sigma * eps, parametrization.coefficients(t)
    target = (y0 - c.skip * y) / c.out
    expected = {"epsilon": eps, "v": alpha * eps - sigma * y0, "flow": eps - y0, "edm": target}[name]
    torch.testing.assert_close(target, expected)
    torch.testing.assert_close(c.skip * y + c.out * target, y0)


@pytest.mark.parametrize("name", NAMES)
def test_a_models_steps_reach_its_last_time_and_train_within(name: str) -> None:
    parametrization = PARAMETRIZATIONS[name](DiffusionConfig(parametrization=name))  # type: ignore[arg-type]
    torch.manual_seed(0)
    t = parametrization.training_times(10_000, torch.device("cpu"))
    assert float(t.min()) > 0
    last = parametrization.path.times(18)[0]
    assert name == "edm" or float(t.max()) <= last
    for steps in (4, 18):
        path = parametrization.sampling_path(steps)
        _, own = parametrization.onto_own(torch.ones(3), path.times(steps)[0], path)
        assert torch.isfinite(parametrization.coefficients(torch.tensor([own])).skip)
        assert own == pytest.approx(last, rel=1e-6)


MANY = {"num_labels": 3, "text_vocabulary": 5, "condition_dropout": 0.5}


@pytest.mark.parametrize(
    "config", [{}, MANY, {**MANY, "text_encoder": "bag"}, {"parametrization": "v", "attention": False}]
)
def test_gradients_reach_every_parameter(config: dict[str, Any]) -> None:
    model = diffusion(**{"condition_dropout": 0.5, **config})
    torch.manual_seed(1)
    for _ in range(4):
        loss_of(model, many_conditions(4)).backward()
    assert still(model) == []
    assert len(model.phases["model"]) == len(list(model.parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_guidance_of_one_is_none_and_of_others_is_linear_in_the_denoised(name: str) -> None:
    model, batch = diffusion(parametrization=name, **MANY).eval(), many_conditions(4)
    plain = model.sample(batch.condition, source(4), SampleOptions())
    assert torch.equal(model.sample(batch.condition, source(4), SampleOptions(guidance_scale=1.0)), plain)
    options = SampleOptions(steps=1, sampler="ddim")  # one step is D itself
    w0, w1, w3 = (model.sample(batch.condition, source(4), replace(options, guidance_scale=w)) for w in (0.0, 1.0, 3.0))
    assert float((w1 - w0).abs().mean()) > 1e-4
    torch.testing.assert_close(w3, w0 + 3 * (w1 - w0), atol=2e-4, rtol=1e-3)


def test_without_guidance_and_condition_all_conditions_are_one() -> None:
    model, batch = diffusion(**MANY).eval(), many_conditions(4)
    unguided = SampleOptions(guidance_scale=0.0)
    other = replace(batch.condition, image=-batch.condition.image, label=batch.condition.label * 0)
    one, two = (model.sample(c, source(4), unguided) for c in (batch.condition, other))
    assert torch.equal(one, two)
    kept = diffusion(**MANY, dropped_parts=["label", "text"]).eval()
    one, two = (kept.sample(c, source(4), unguided) for c in (batch.condition, other))
    assert not torch.equal(one, two)  # the image stays


def test_each_part_of_the_condition_counts_and_one_that_was_dropped_in_training_may_be_missing() -> None:
    model, condition = diffusion(**MANY).eval(), many_conditions(4).condition
    y = model.sample(condition, source(4), SampleOptions())
    for changed in (
        replace(condition, image=-condition.image),
        replace(condition, label=condition.label.flip(0)),
        replace(condition, text=condition.text.flip(0)),
        replace(condition, label=None),
        replace(condition, text=None),
    ):
        assert float((model.sample(changed, source(4), SampleOptions()) - y).abs().mean()) > 1e-4
    with pytest.raises(UnsupportedError, match="image"):
        model.sample(replace(condition, image=None), source(4), SampleOptions())
    strict = diffusion(**{**MANY, "condition_dropout": 0.0}).eval()
    with pytest.raises(UnsupportedError, match="text"):
        strict.sample(replace(condition, text=None), source(4), SampleOptions())
    with pytest.raises(UnsupportedError, match="condition_dropout"):
        strict.sample(condition, source(4), SampleOptions(guidance_scale=2.0))


def test_a_model_without_a_condition_image_draws_at_its_own_size() -> None:
    model = diffusion(condition_channels=0, size_px=10, num_labels=3, target_channels=3)
    labels = Condition(label=torch.tensor([0, 2]))
    assert model.eval().sample(labels, source(2, 3), SampleOptions()).shape == (2, 3, 3, 10, 10)
    batch = Batch(condition=labels, target=torch.zeros(2, 3, 10, 10), weight=torch.ones(2))
    assert torch.isfinite(model(batch)["denoising"])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_draws_differ_and_each_is_the_same_alone_and_in_other_batches(sampler: str) -> None:
    checks.draws_are_their_own(diffusion(out_stride=1).eval(), color_batch(3, size=8), SampleOptions(sampler=sampler))


@pytest.mark.parametrize("size", [(17, 30), (1, 1), (5, 3)])
def test_any_size_goes_in_and_comes_out(size: tuple[int, int]) -> None:
    checks.a_size_goes_in_and_comes_out(diffusion(), size)


def test_the_conditions_encoder_runs_once_for_all_draws_and_steps() -> None:
    model, calls = diffusion(steps=5).eval(), []
    model.encoder.register_forward_hook(lambda _module, given, _out: calls.append(given[0].num_samples))
    model.sample(color_batch(2).condition, source(2, num_draws=4), SampleOptions())
    assert calls == [2]


def test_temperature_scales_the_noise_and_a_point_has_none() -> None:
    model, condition = diffusion().eval(), color_batch(1).condition
    spread = [
        float(model.sample(condition, source(1, 8), SampleOptions(temperature=t)).std(dim=1).mean()) for t in (1, 0.1)
    ]
    assert 0 < spread[1] < 0.5 * spread[0]
    point = model.sample(condition, source(1, 2), SampleOptions(mode="point", sampler="ddpm"))
    assert torch.equal(point[:, 0], point[:, 1])


def test_a_gain_scales_the_draws_and_not_the_point() -> None:
    model, condition = diffusion().eval(), color_batch(1).condition
    plain = {mode: model.sample(condition, source(1, 2), SampleOptions(mode=mode)) for mode in ("draw", "point")}
    model.config = replace(model.config, draw_gain=1.25)
    torch.testing.assert_close(model.sample(condition, source(1, 2), SampleOptions()), plain["draw"] * 1.25)
    assert torch.equal(model.sample(condition, source(1, 2), SampleOptions(mode="point")), plain["point"])


def test_padding_adds_nothing_to_the_loss() -> None:
    checks.padding_adds_nothing(diffusion(), color_batch(3))


@pytest.mark.parametrize("config", [MANY, {"parametrization": "flow", "clip": 1.0}])
def test_a_loaded_model_draws_the_same_bits(config: dict[str, Any]) -> None:
    options = SampleOptions(steps=4, sampler="dpm-solver++")
    checks.a_loaded_model_draws_the_same(diffusion(seed=3, **config).eval(), many_conditions(4), options)


def test_clipping_bounds_what_is_denoised() -> None:
    model, condition = diffusion(clip=0.1, data_scale=0.5).eval(), color_batch(2).condition
    y = model.sample(condition, source(2), SampleOptions(steps=6))
    assert float(y.abs().max()) <= 0.1 + 1e-6
    assert float(y.abs().max()) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("config", [{"parametrization": "edm"}, {"parametrization": "flow", "data_scale": 0.4}])
def test_two_images_are_learned_by_heart(config: dict[str, Any]) -> None:
    model = diffusion(**config, width=16, out_stride=1, condition_dropout=0.0, steps=6)
    batch = color_batch(2, size=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    repeated = Batch(
        condition=Condition(image=batch.condition.image.repeat(8, 1, 1, 1)),
        target=batch.target.repeat(8, 1, 1, 1),
        weight=torch.ones(16),
    )
    torch.manual_seed(0)
    for step in range(250):
        optimizer.param_groups[0]["lr"] = 4e-3 * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / 250)))
        optimizer.zero_grad()
        model(repeated)["denoising"].backward()
        optimizer.step()
    y = model.eval().sample(batch.condition, source(2, num_draws=2), SampleOptions())
    error = float((y - batch.target[:, None]).abs().mean())
    assert error < 0.06 < 0.12 < float(batch.target.abs().mean())


def test_wrong_values_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'heun'\?"):
        find_sampler("huen")
    cases: dict[str, dict[str, Any]] = {
        "did you mean 'edm'": {"parametrization": "edn"},
        "model.sigma_max": {"sigma_max": 0.001},
        "model.condition_dropout": {"condition_dropout": 1.0},
        "model.dropped_parts": {"dropped_parts": ["picture"]},
        "model.attention_heads": {"attention_heads": 3},
        "model.condition_channels": {"condition_channels": -1},
        "model.draw_gain": {"draw_gain": 0.0},
    }
    checks.wrong_values_are_refused("diffusion", TINY, cases)
    for options in ({"steps": 0}, {"guidance_scale": -1.0}, {"guidance_scale": math.nan}, {"top_k": 0}, {"top_p": 0.0}):
        with pytest.raises(ConfigError, match=r"sample\."):
            SampleOptions(**options)  # type: ignore[arg-type]
