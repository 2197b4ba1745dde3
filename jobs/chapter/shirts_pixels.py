"""World "shirts" and the families that model each pixel by itself: Gaussian, mixture, softmax; and the CRF on top.

One training of the classifier serves its draws, its annealed mean, its argmax and the CRF. Perturb-and-MAP gives the
likelier mode somewhat more than its weight (0.71 for 0.65): a tenth of the noise is
each pixel's own, and the majority's pixels outvote it.

Broken, it fails: a Gaussian without the log-determinant in its likelihood has standard deviations of 4.3 and 4.2,
with half of it of 0.69 and 0.81; a mixture that draws its components with even odds is off-mode in 0.16. The CRF
without pairwise potentials has an agreement of 0.545, and without shared noise a weight of 0.997 with both modes in
0.03 of inputs; the argmax in place of the annealed mean is off-mode in 0; bins that round down have twice the error.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.families import build
from condgen.families.color_classifier.model import ColorClassifier
from condgen.families.crf.model import Crf
from condgen.families.mixture.model import PixelMixture
from condgen.worlds.shirts import MODES, NOISE, WEIGHTS, ModeShares, draw_shirts, flips, mode_shares
from jobs.chapter.claims import Claim, Experiment, ExperimentNumbers, at_least, at_most, within
from jobs.chapter.shirts import batch, draw, held_out, images
from jobs.chapter.training import TINY_UNET, train

__all__ = ["EXPERIMENTS"]

_BINS = {**TINY_UNET, "bins": "uniform", "num_bins": 21}
"""A tenth apart in both channels: 441 bins."""

_CRF = {"pairwise_weight": 12.0, "window_radius": 5, "position_width": 4.0, "compatibility_width": 0.3}
_POINT = SampleOptions(mode="point")
_VARIANCE = WEIGHTS[0] * WEIGHTS[1]
_STD = tuple((_VARIANCE * (a - b) ** 2 + NOISE**2) ** 0.5 for a, b in zip(*MODES, strict=True))


def _shares(found: ModeShares, name: str = "") -> dict[str, float]:
    return {f"{name}weight": found.weight, f"{name}off-mode": found.off_mode, f"{name}agreement": found.agreement}


def _gaussian(seed: int, effort: float) -> ExperimentNumbers:
    model = train("gaussian", TINY_UNET, batch, seed=seed, steps=round(400 * effort))
    shirts = held_out()
    with torch.no_grad():
        scale = cast("PixelMixture", model).components(Condition(image=shirts.luminance)).scale[:, 0]
    inside = shirts.mask.float()
    spread = [float((scale[:, c, c] * inside).sum() / inside.sum()) for c in (0, 1)]
    made = draw(model, shirts, 6)
    numbers = {"std of a": spread[0], "std of b": spread[1], "off-mode": mode_shares(made, shirts.mask).off_mode}
    return ExperimentNumbers(numbers=numbers, images={"x, y, draws": images(shirts, made)})


def _mixture(seed: int, effort: float) -> ExperimentNumbers:
    model = train("mixture", {**TINY_UNET, "components": 3}, batch, seed=seed, steps=round(700 * effort))
    shirts = held_out()
    made = draw(model, shirts, 8)
    return ExperimentNumbers(
        numbers=_shares(mode_shares(made, shirts.mask)), images={"x, y, draws": images(shirts, made)}
    )


def _crf_of(model: ConditionalModel, **config: Any) -> Crf:
    """The CRF on a trained classifier, and the point prediction that is asked for."""
    field = cast("Crf", build("crf", {**_BINS, **_CRF, **config})).eval()
    field.classifier.load_state_dict(model.state_dict())
    return field


def _point_of(model: ConditionalModel, point: str) -> ColorClassifier:
    other = cast("ColorClassifier", build("color_classifier", {**_BINS, "point": point})).eval()
    other.load_state_dict(model.state_dict())
    return other


def _softmax(seed: int, effort: float) -> ExperimentNumbers:
    model = train("color_classifier", _BINS, batch, seed=seed, steps=round(500 * effort))
    shirts = held_out()
    made = {
        "draws": draw(model, shirts, 6),
        "crf": draw(_crf_of(model), shirts, 12),
        "annealed": draw(model, shirts, 1, _POINT),
        "argmax": draw(_point_of(model, "argmax"), shirts, 1, _POINT),
    }
    shares = {name: mode_shares(value, shirts.mask) for name, value in made.items()}
    numbers = {
        **_shares(shares["draws"]),
        **_shares(shares["crf"], "crf "),
        "crf both modes": shares["crf"].both,
        "annealed mean off-mode": shares["annealed"].off_mode,
        "argmax off-mode": shares["argmax"].off_mode,
    }
    points = torch.cat([made["annealed"], made["argmax"]], dim=1)
    return ExperimentNumbers(
        numbers=numbers,
        images={
            "x, y, draws of the softmax": images(shirts, made["draws"]),
            "x, y, annealed mean, argmax": images(shirts, points),
            "x, y, draws of the CRF": images(shirts, made["crf"]),
        },
    )


def _batch_of_odds(generator: torch.Generator) -> Batch:
    return draw_shirts(32, generator, odds=None, shading=0.4).batch()


def _near_even(seed: int, effort: float) -> ExperimentNumbers:
    """Shirts whose luminance rises from left to right, and whose odds are its mean: both colors, about as likely."""
    narrow = {**_BINS, "multipliers": (1,)}
    model = train("color_classifier", narrow, _batch_of_odds, seed=seed, steps=round(400 * effort))
    likeliest = cast("ColorClassifier", build("color_classifier", {**narrow, "point": "argmax"})).eval()
    likeliest.load_state_dict(model.state_dict())
    shirts = draw_shirts(400, torch.Generator().manual_seed(10_000_019), odds=None, shading=0.4)
    near = (shirts.odds - 0.5).abs() < 0.1
    shirts = type(shirts)(**{name: getattr(shirts, name)[near] for name in ("luminance", "ab", "mask", "odds")})
    argmax = draw(likeliest, shirts, 1, _POINT)
    field = draw(_crf_of(model, multipliers=(1,)), shirts, 4)
    numbers = {
        "flips of argmax": flips(argmax, shirts.mask),
        "flips of the CRF": flips(field, shirts.mask),
        "shirts of two colors in argmax": _two_colored(argmax, shirts.mask),
        "shirts of two colors in the CRF": _two_colored(field, shirts.mask),
    }
    return ExperimentNumbers(
        numbers=numbers, images={"x, y, argmax, draws of the CRF": images(shirts, torch.cat([argmax, field], 1))}
    )


def _two_colored(draws: torch.Tensor, mask: torch.Tensor) -> float:
    """The share of drawn shirts with more than a twentieth of each color."""
    first = mode_shares(draws, mask).first
    return float(((first > 0.05) & (first < 0.95)).float().mean())


_LEVELS = (4, 8, 16, 32, 64, 128, 256)


def _quantisation(seed: int, effort: float) -> ExperimentNumbers:  # noqa: ARG001 - nothing is trained
    """The mean error of eight-bit values that are put in k bins and taken out, over a quarter of the bins' width."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (1, 1, 256, 256), generator=generator) / 127.5 - 1
    errors = {}
    for k in _LEVELS:
        config = {**TINY_UNET, "bins": "uniform", "num_bins": k, "target_channels": 1}
        bins = cast("ColorClassifier", build("color_classifier", config)).bins
        errors[k] = float((bins.decode(bins.nearest(values)) - values).abs().mean())
    ratios = [errors[k] / (0.25 * 2 / (k - 1)) for k in _LEVELS[:-1]]
    numbers = {
        "least error / (width / 4)": min(ratios),
        "largest error / (width / 4)": max(ratios),
        "error at 256 bins, in levels": errors[256] * 127.5,
    }
    return ExperimentNumbers(numbers=numbers)


_PIXELWISE = (within("weight", WEIGHTS[0], 0.05), at_most("off-mode", 0.05), at_most("agreement", 0.60))

EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        name="gaussian",
        world="shirts",
        run=_gaussian,
        minutes=0.4,
        claims=(
            Claim(
                text="a Gaussian knows the spread but has one mode",
                bounds=(
                    within("std of a", _STD[0], 0.1 * _STD[0]),
                    within("std of b", _STD[1], 0.1 * _STD[1]),
                    at_least("off-mode", 0.85),
                ),
            ),
        ),
    ),
    Experiment(
        name="mixture",
        world="shirts",
        run=_mixture,
        minutes=0.7,
        claims=(Claim(text="a mixture has both modes, pixel by pixel", bounds=_PIXELWISE),),
    ),
    Experiment(
        name="softmax-and-crf",
        world="shirts",
        run=_softmax,
        minutes=1.5,
        claims=(
            Claim(text="a softmax over bins has both modes, pixel by pixel", bounds=_PIXELWISE),
            Claim(
                text="the annealed mean is no mode either, the argmax is one",
                bounds=(at_least("annealed mean off-mode", 0.9), at_most("argmax off-mode", 0.05)),
            ),
            Claim(
                text="a CRF on the softmax restores agreement",
                bounds=(
                    at_least("crf agreement", 0.97),
                    at_most("crf off-mode", 0.05),
                    within("crf weight", WEIGHTS[0], 0.15),
                    at_least("crf both modes", 0.9),
                ),
            ),
        ),
    ),
    Experiment(
        name="near-even-odds",
        world="shirts",
        run=_near_even,
        minutes=1.0,
        claims=(
            Claim(
                text="where the odds cross 1/2 along luminance an argmax changes color within a shirt, a CRF not",
                bounds=(
                    at_least("shirts of two colors in argmax", 0.3),
                    at_most("shirts of two colors in the CRF", 0.05),
                    at_most("flips of the CRF", 0.005),
                ),
            ),
        ),
    ),
    Experiment(
        name="quantisation",
        world="shirts",
        run=_quantisation,
        seeds=(0,),
        minutes=0.1,
        claims=(
            Claim(
                text="quantisation error falls as bins rise",
                bounds=(
                    at_least("least error / (width / 4)", 0.95),
                    at_most("largest error / (width / 4)", 1.05),
                    at_most("error at 256 bins, in levels", 1e-3),
                ),
            ),
        ),
    ),
)
