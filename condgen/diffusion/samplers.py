"""From noise to data, given D(y_t, t) = E[y_0 | y_t]; each works on every path of ``condgen.diffusion.paths``.

    probability flow        dy/dt = alpha'(t) D + sigma'(t) eps,   eps = (y - alpha D) / sigma

where alpha' and sigma' are rates. On EDM's path this is its eq. (1); on the linear one, the velocity eps - D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from torch import Tensor

from condgen.checks import check_choice
from condgen.diffusion.paths import Path

__all__ = [
    "SAMPLERS",
    "Denoise",
    "Normal",
    "Sampler",
    "adams_bashforth",
    "ddim",
    "ddpm",
    "dpm_solver_pp",
    "euler",
    "find_sampler",
    "heun",
]

Denoise = Callable[[Tensor, float], Tensor]
"""The denoiser D(y, t), of y's shape."""

Normal = Callable[[int], Tensor]
"""The noise of a step (from 1), of y's shape."""

Sampler = Callable[[Denoise, Path, int, Tensor, Normal], Tensor]
"""From (D, path, steps, y at the first time, noise) to y at time 0."""


@dataclass(frozen=True)
class _Step:
    """One step's ends: times, alphas and sigmas."""

    t: float
    t_next: float
    alpha: float
    sigma: float
    alpha_next: float
    sigma_next: float


def _steps(path: Path, steps: int) -> list[_Step]:
    return [_Step(t, s, *path.at(t), *path.at(s)) for t, s in pairwise(path.times(steps))]


def _slope(path: Path, y: Tensor, denoised: Tensor, t: float) -> Tensor:
    alpha, sigma = path.at(t)
    alpha_rate, sigma_rate = path.rates(t)
    return alpha_rate * denoised + (sigma_rate / sigma) * (y - alpha * denoised)


def _exact(step: _Step, y: Tensor, denoised: Tensor) -> Tensor:
    """Return where the step leads if D stays what it is."""
    return step.alpha_next * denoised + (step.sigma_next / step.sigma) * (y - step.alpha * denoised)


def euler(denoise: Denoise, path: Path, steps: int, y: Tensor, normal: Normal) -> Tensor:  # noqa: ARG001 - no noise
    """Take straight steps along the slope at their beginning; one step from noise on the linear path is D itself."""
    for step in _steps(path, steps):
        y = y + (step.t_next - step.t) * _slope(path, y, denoise(y, step.t), step.t)
    return y


def heun(denoise: Denoise, path: Path, steps: int, y: Tensor, normal: Normal) -> Tensor:  # noqa: ARG001 - no noise
    """Take Heun's second-order steps, the last of first order: EDM, algorithm 1 without its churn.

    It costs 2 ``steps`` - 1 evaluations.
    """
    for step in _steps(path, steps):
        denoised = denoise(y, step.t)
        if step.t_next == 0:
            return _exact(step, y, denoised)  # on EDM's and the linear path, this is Euler's step
        slope = _slope(path, y, denoised, step.t)
        ahead = y + (step.t_next - step.t) * slope
        slope_ahead = _slope(path, ahead, denoise(ahead, step.t_next), step.t_next)
        y = y + (step.t_next - step.t) * 0.5 * (slope + slope_ahead)
    return y


def adams_bashforth(denoise: Denoise, path: Path, steps: int, y: Tensor, normal: Normal) -> Tensor:  # noqa: ARG001
    """Take Adams and Bashforth's two-step method: the slope goes on as it changed in the step before.

    y += h ((1 + h / 2h_1) v - h / 2h_1 v_1), where v is the slope, h the step's length, and v_1 and h_1 those of the
    step before (Hairer, Norsett and Wanner 1993, III.5, on a grid of unequal steps). The first step is Euler's. In t,
    and so best on the linear path, where slopes change little; DEIS (Zhang and Chen 2022, arXiv:2204.13902) has it too.
    """
    before: Tensor | None = None
    h_before = 0.0
    for step in _steps(path, steps):
        slope = _slope(path, y, denoise(y, step.t), step.t)
        h = step.t_next - step.t
        ahead = slope
        if before is not None:
            half = h / (2 * h_before)
            ahead = (1 + half) * slope - half * before
        y = y + h * ahead
        before, h_before = slope, h
    return y


def ddim(denoise: Denoise, path: Path, steps: int, y: Tensor, normal: Normal) -> Tensor:  # noqa: ARG001 - no noise
    """Take deterministic steps: Song et al. 2021 (arXiv:2010.02502), eq. (12) with its sigma 0."""
    for step in _steps(path, steps):
        y = _exact(step, y, denoise(y, step.t))
    return y


def ddpm(denoise: Denoise, path: Path, steps: int, y: Tensor, normal: Normal) -> Tensor:
    """Sample ancestrally: Ho et al. 2020, algorithm 2, for any path as in Kingma et al. 2021 (arXiv:2107.00630).

    q(y_s | y_t, y_0) is Gaussian (its appendix A.2, s < t), with y_0 taken to be D:

        mean      (alpha_ts sigma_s^2 / sigma_t^2) y_t + (alpha_s sigma_ts^2 / sigma_t^2) D
        variance  sigma_ts^2 sigma_s^2 / sigma_t^2
        alpha_ts = alpha_t / alpha_s,   sigma_ts^2 = sigma_t^2 - alpha_ts^2 sigma_s^2
    """
    for number, step in enumerate(_steps(path, steps), start=1):
        ratio = step.alpha / step.alpha_next
        variance_ratio = (step.sigma_next / step.sigma) ** 2
        new_share = max(0.0, 1 - ratio**2 * variance_ratio)  # sigma_ts^2 / sigma_t^2
        y = ratio * variance_ratio * y + step.alpha_next * new_share * denoise(y, step.t)
        if step.sigma_next > 0:
            y = y + math.sqrt(new_share) * step.sigma_next * normal(number)
    return y


def dpm_solver_pp(denoise: Denoise, path: Path, steps: int, y: Tensor, normal: Normal) -> Tensor:  # noqa: ARG001
    """Take steps of DPM-Solver++(2M): Lu et al. 2022 (arXiv:2211.01095), algorithm 2.

    The first and last steps are of first order. With lambda = ln(alpha / sigma), h its step and r the last step over
    this one, D is extrapolated to (1 + 1 / 2r) D_i - D_{i-1} / 2r.
    """
    before: Tensor | None = None
    h_before = 0.0
    for step in _steps(path, steps):
        denoised = denoise(y, step.t)
        h = _log_ratio(step.alpha_next, step.sigma_next) - _log_ratio(step.alpha, step.sigma)
        extrapolation = denoised
        if before is not None and math.isfinite(h):
            half = h / (2 * h_before)  # 0 after a step from pure noise, which was infinitely long
            extrapolation = (1 + half) * denoised - half * before
        y = _exact(step, y, extrapolation)
        before, h_before = denoised, h
    return y


def _log_ratio(alpha: float, sigma: float) -> float:
    if sigma == 0:
        return math.inf
    return math.log(alpha / sigma) if alpha > 1e-12 else -math.inf


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "adams-bashforth": adams_bashforth,
        "ddim": ddim,
        "ddpm": ddpm,
        "dpm-solver++": dpm_solver_pp,
        "euler": euler,
        "heun": heun,
    }
)


def find_sampler(name: str) -> Sampler:
    """Return the sampler ``name``.

    Raises:
        ConfigError: no such sampler; it lists the known names and the nearest.
    """
    check_choice("sample.sampler", name, SAMPLERS)
    return SAMPLERS[name]
