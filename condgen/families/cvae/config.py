"""The configuration of ``cvae``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condgen.checks import Count, Natural, NotNegative, Positive
from condgen.errors import ConfigError
from condgen.nn.config import ModulatedConfig

__all__ = ["CVAEConfig"]


@dataclass(frozen=True, kw_only=True)
class CVAEConfig(ModulatedConfig):
    """See ``condgen.families.cvae.model``.

    Attributes:
        latent_dims: length of z.
        prior: ``fixed``, N(0, I) whatever x is; ``learned``, a Gaussian that depends on x.
        free_bits: KL of each dimension of z that is not penalized (nats), so that z is used.
        kl_weight: weight of the KL term; 1 is the ELBO.
        kl_warmup_steps: training steps over which that weight grows from 0; 0 starts at the full weight.
        variance: variance of the Gaussian likelihood: ``fixed``; ``learned``, one number a channel; ``pixel``,
            predicted.
        std: the fixed standard deviation, or the initial one.
        least_std: lower limit of a learned standard deviation.
        observation_noise: whether draws add the likelihood's noise, which makes them exact draws of p(y | x);
            without it they are its means, as images are shown.
        posterior_norm: normalization of the mean over all places that q sees: ``layer``; or ``batch``, which removes
            what is the same in all samples. That can be nearly everything (98% for a small ball), and z then stays
            unused: batch normalization keeps the KL from vanishing (Zhu et al. 2020, arXiv:2004.12585).
        first_posterior_std: approximate standard deviation of q before training. Less than 1 lets the decoder see at
            once what z says, where z would otherwise grow out of its noise, and beyond the prior.
        bound_samples: draws of z in ``log_prob``.
    """

    family: ClassVar[str] = "cvae"

    latent_dims: Count = 16
    prior: Literal["fixed", "learned"] = "fixed"
    free_bits: NotNegative = 0.05
    kl_weight: NotNegative = 1.0
    kl_warmup_steps: Natural = 0
    variance: Literal["fixed", "learned", "pixel"] = "learned"
    std: Positive = 0.1
    least_std: Positive = 0.005
    observation_noise: bool = False
    posterior_norm: Literal["layer", "batch"] = "layer"
    first_posterior_std: Positive = 1.0
    bound_samples: Count = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.std <= self.least_std:
            raise ConfigError("model.std", self.std, f"a number > model.least_std ({self.least_std})")
