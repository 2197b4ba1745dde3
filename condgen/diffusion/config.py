"""What a configuration says of paths, parametrizations and samplers. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from condgen.checks import Natural, Positive, Share, check_fields
from condgen.errors import ConfigError

__all__ = ["SAMPLER_NAMES", "PathConfig"]

SAMPLER_NAMES = ("adams-bashforth", "ddim", "ddpm", "dpm-solver++", "euler", "heun")
"""The keys of ``condgen.diffusion.samplers.SAMPLERS``."""


@dataclass(frozen=True, kw_only=True)
class PathConfig:
    """A parametrization and its path. The defaults of EDM are those of Karras et al. 2022, table 1.

    Attributes:
        parametrization: ``edm``; ``epsilon`` or ``v`` on the cosine schedule; ``flow`` (rectified).
        data_scale: divisor of y before noise is added; y / data_scale should have a standard deviation
            of about ``sigma_data`` for EDM, and of about 1 for the others.
        sigma_data: standard deviation of y / data_scale that EDM assumes.
        sigma_min, sigma_max, rho: noise levels of EDM's last and first steps, and the exponent of its spacing.
        few_steps: number of steps from which EDM's samplers walk its own path; with fewer they walk a better one, see
            ``condgen.diffusion.paths``.
        p_mean, p_std: mean and standard deviation of ln sigma in EDM's training.
        logit_mean, logit_std: mean and standard deviation of the flow's logit-normal times in training.
        uniform_times: share of training times that are spread evenly instead (EDM: of ln sigma from sigma_min to
            sigma_max; flow: of t). The published distributions, 0, all but leave out pure noise, where a sampler's
            first step sets the modes' weights: short trainings do better with 0.1.
        time_shift: factor s of the odds of the flow's sampling times, t = s u / (1 + (s - 1) u) with u evenly spread
            (Esser et al. 2024, arXiv:2403.03206, eq. 23): above 1 there are more steps where noise prevails.
    """

    parametrization: Literal["edm", "epsilon", "v", "flow"] = "edm"
    data_scale: Positive = 1.0
    sigma_data: Positive = 0.5
    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0
    rho: Positive = 7.0
    few_steps: Natural = 16
    p_mean: float = -1.2
    p_std: Positive = 1.2
    logit_mean: float = 0.0
    logit_std: Positive = 1.0
    uniform_times: Share = 0.0
    time_shift: Positive = 1.0

    def __post_init__(self) -> None:
        check_fields("model", self)
        if not self.sigma_max > self.sigma_min:
            raise ConfigError("model.sigma_max", self.sigma_max, f"a number > {self.sigma_min}")
