"""From data to noise and back: y_t = alpha(t) y_0 + sigma(t) eps, and what a network predicts of it.

    path          alpha         sigma         t from .. to
    exploding     1             t             sigma_max .. 0     Karras et al. 2022 (EDM, arXiv:2206.00364)
    cosine        cos(pi t/2)   sin(pi t/2)   1 .. 0             Nichol and Dhariwal 2021 (arXiv:2102.09672), in
                                                                 continuous time and without its offset
    linear        1 - t         scale t       1 .. 0             Liu et al. 2022 (arXiv:2209.03003), Lipman et al. 2022

Every parametrization is a preconditioning of a raw network F, as in EDM's eq. (7):

    D(y; t) = c_skip(t) y + c_out(t) F(c_in(t) y; c_noise(t)),    trained so that F = (y_0 - c_skip y_t) / c_out

               c_skip                        c_out                         F is then
    edm        s_d^2 / (t^2 + s_d^2)         t s_d / sqrt(t^2 + s_d^2)     of unit variance (EDM, table 1)
    epsilon    1 / alpha                     -sigma / alpha                eps (Ho et al. 2020, arXiv:2006.11239)
    v          alpha                         -sigma                        alpha eps - sigma y_0 (Salimans and Ho 2022)
    flow       1                             -t                            eps - y_0, the velocity dy_t / dt

A mean squared error of F is EDM's weighted loss of D with lambda = 1 / c_out^2 (its eq. (8)).

EDM's denoiser serves on any path, as D(y / alpha; sigma / alpha), and its own path is bad for few steps: with 4 Heun
steps, a Gaussian comes out with 4.4 times its standard deviation, with 8 steps 1.4 times. On the linear path to noise
of the data's own spread it is 0.95 and 0.99 times, and draws of two modes stay off none in 200 (4 steps), where EDM's
path leaves most between them. So fewer than ``few_steps`` steps walk that one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.diffusion.config import PathConfig

__all__ = [
    "PARAMETRIZATIONS",
    "Coefficients",
    "CosinePath",
    "ExplodingPath",
    "LinearPath",
    "Parametrization",
    "Path",
]


class Path(ABC):
    """alpha and sigma of a time, and the times of a sampler's steps. Times are numbers of any scale."""

    @abstractmethod
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha(t) and sigma(t), of t's shape."""

    @abstractmethod
    def rates(self, t: float) -> tuple[float, float]:
        """Return d alpha / dt and d sigma / dt."""

    @abstractmethod
    def times(self, steps: int) -> tuple[float, ...]:
        """Return ``steps`` + 1 times, from the noisiest down to 0, which is data."""

    def at(self, t: float) -> tuple[float, float]:
        """Return alpha(t) and sigma(t) as numbers."""
        alpha, sigma = self.alpha_sigma(torch.tensor(t, dtype=torch.float64))
        return float(alpha), float(sigma)


@dataclass(frozen=True)
class ExplodingPath(Path):
    """t is the noise's standard deviation."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), t

    def rates(self, t: float) -> tuple[float, float]:  # noqa: ARG002 - constant
        return 0.0, 1.0

    def times(self, steps: int) -> tuple[float, ...]:
        """Return the times of EDM, eq. (5), and 0 at the end."""
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        shares = [i / (steps - 1) if steps > 1 else 0.0 for i in range(steps)]
        return (*((high + share * (low - high)) ** self.rho for share in shares), 0.0)


@dataclass(frozen=True)
class CosinePath(Path):
    """Variance-preserving: alpha^2 + sigma^2 = 1. ``t_max`` < 1 where D(y; 1) is not defined."""

    t_max: float = 1.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = t * (math.pi / 2)
        return angle.cos(), angle.sin()

    def rates(self, t: float) -> tuple[float, float]:
        angle = t * math.pi / 2
        return -math.pi / 2 * math.sin(angle), math.pi / 2 * math.cos(angle)

    def times(self, steps: int) -> tuple[float, ...]:
        return tuple(self.t_max * (1 - i / steps) for i in range(steps + 1))


@dataclass(frozen=True)
class LinearPath(Path):
    """A straight line from data to noise of standard deviation ``scale``; ``t_max`` as in ``CosinePath``.

    ``shift`` above 1 moves a sampler's times towards noise, see ``PathConfig.time_shift``.
    """

    scale: float = 1.0
    t_max: float = 1.0
    shift: float = 1.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, self.scale * t

    def rates(self, t: float) -> tuple[float, float]:  # noqa: ARG002 - constant
        return -1.0, self.scale

    def times(self, steps: int) -> tuple[float, ...]:
        even = (1 - i / steps for i in range(steps + 1))
        return tuple(self.t_max * self.shift * u / (1 + (self.shift - 1) * u) for u in even)


@dataclass(frozen=True)
class Coefficients:
    """c_skip, c_out, c_in and c_noise of some times, each of the times' shape; c_noise is within about [-2, 2]."""

    skip: Tensor
    out: Tensor
    input: Tensor
    noise: Tensor


class Parametrization(ABC):
    """The quantity that the network predicts, its path, and the times at which it is trained.

    Args:
        config: the part of a configuration that describes the path.
    """

    path: Path

    def __init__(self, config: PathConfig) -> None:
        self.config = config

    def sampling_path(self, steps: int) -> Path:  # noqa: ARG002 - EDM's depends on it
        """Return the path that samplers walk in ``steps`` steps."""
        return self.path

    def onto_own(self, y: Tensor, t: float, path: Path) -> tuple[Tensor, float]:  # noqa: ARG002 - EDM has others
        """Return y at time ``t`` of a sampling path as y and time of ``self.path``, where D is the same."""
        return y, t

    @abstractmethod
    def coefficients(self, t: Tensor) -> Coefficients:
        """Return the preconditioning at times ``t`` > 0 of any shape."""

    @abstractmethod
    def training_times(self, num: int, device: torch.device) -> Tensor:
        """Return random times, ``[num]`` float32, from torch's generator."""


class _Edm(Parametrization):
    def __init__(self, config: PathConfig) -> None:
        super().__init__(config)
        self.path = ExplodingPath(config.sigma_min, config.sigma_max, config.rho)

    def sampling_path(self, steps: int) -> Path:
        data, most = self.config.sigma_data, self.config.sigma_max
        return self.path if steps >= self.config.few_steps else LinearPath(data, most / (most + data))

    def onto_own(self, y: Tensor, t: float, path: Path) -> tuple[Tensor, float]:
        alpha, sigma = path.at(t)
        return y / alpha, sigma / alpha

    def coefficients(self, t: Tensor) -> Coefficients:
        data = self.config.sigma_data
        total = t.square() + data**2
        return Coefficients(data**2 / total, t * data / total.sqrt(), total.rsqrt(), t.log() / 4)

    def training_times(self, num: int, device: torch.device) -> Tensor:
        """Return times with ln sigma ~ N(P_mean, P_std^2), and a share of even ones."""
        low, high = math.log(self.config.sigma_min), math.log(self.config.sigma_max)
        log_sigma = torch.randn(num, device=device) * self.config.p_std + self.config.p_mean
        uniform, which = torch.rand(2, num, device=device)
        return torch.where(which < self.config.uniform_times, low + uniform * (high - low), log_sigma).exp()


_LEAST_TIME = 1e-3
_EPSILON_LAST_TIME = 0.992
"""alpha is 0.0126 there: epsilon says nothing of y_0 where alpha is 0."""


class _Epsilon(Parametrization):
    def __init__(self, config: PathConfig) -> None:
        super().__init__(config)
        self.path = CosinePath(_EPSILON_LAST_TIME)

    def coefficients(self, t: Tensor) -> Coefficients:
        alpha, sigma = self.path.alpha_sigma(t)
        return Coefficients(1 / alpha, -sigma / alpha, torch.ones_like(t), 2 * t - 1)

    def training_times(self, num: int, device: torch.device) -> Tensor:
        return _LEAST_TIME + (_EPSILON_LAST_TIME - _LEAST_TIME) * torch.rand(num, device=device)


class _V(Parametrization):
    def __init__(self, config: PathConfig) -> None:
        super().__init__(config)
        self.path = CosinePath()

    def coefficients(self, t: Tensor) -> Coefficients:
        alpha, sigma = self.path.alpha_sigma(t)
        return Coefficients(alpha, -sigma, torch.ones_like(t), 2 * t - 1)

    def training_times(self, num: int, device: torch.device) -> Tensor:
        return _LEAST_TIME + (1 - _LEAST_TIME) * torch.rand(num, device=device)


class _Flow(Parametrization):
    def __init__(self, config: PathConfig) -> None:
        super().__init__(config)
        self.path = LinearPath(shift=config.time_shift)

    def coefficients(self, t: Tensor) -> Coefficients:
        return Coefficients(torch.ones_like(t), -t, torch.ones_like(t), 2 * t - 1)

    def training_times(self, num: int, device: torch.device) -> Tensor:
        """Return logit-normal times (Esser et al. 2024, arXiv:2403.03206, eq. 19), and a share of uniform ones."""
        logit = torch.randn(num, device=device) * self.config.logit_std + self.config.logit_mean
        uniform, which = torch.rand(2, num, device=device)
        return torch.where(which < self.config.uniform_times, uniform, logit.sigmoid()).clamp_min(_LEAST_TIME)


PARAMETRIZATIONS: dict[str, type[Parametrization]] = {"edm": _Edm, "epsilon": _Epsilon, "v": _V, "flow": _Flow}
