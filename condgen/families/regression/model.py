"""A point prediction of y from x: the mean of p(y | x), which L2 makes it, or its median, by L1; nothing of its spread.

Where y is ambiguous, the mean is no color that occurs: a red or blue shirt comes out grey. The median is the
majority's color, and never the other. The family is here to show that, and as a baseline.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions, condition_image, weighted_mean
from condgen.errors import UnsupportedError
from condgen.families.regression.config import RegressionConfig
from condgen.nn.unet import conditional_unet, upsample_from_stride
from condgen.noise import NoiseSource

__all__ = ["Regression"]


class Regression(ConditionalModel):
    """The mean or the median of p(y | x), by a U-Net and the loss whose optimum it is."""

    family: ClassVar[str] = "regression"
    is_stochastic: ClassVar[bool] = False
    config: RegressionConfig

    def __init__(self, config: RegressionConfig) -> None:
        super().__init__(config)
        self.net = conditional_unet(config, config.target_channels)

    def predict(self, condition: Condition) -> Tensor:
        """Return the prediction, ``[B, C, H, W]`` float32."""
        image = condition_image(condition, self.config.condition_channels)
        size = (image.shape[-2], image.shape[-1])
        return upsample_from_stride(self.net(image).float(), self.config.out_stride, size)

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:  # noqa: ARG002 - one phase
        """Return the loss under its name, a mean over channels and pixels."""
        loss, prediction = self.config.loss, self.predict(batch.condition)
        if loss == "l2":
            error = (prediction - batch.target).square()
        elif loss == "l1":
            error = (prediction - batch.target).abs()
        else:
            beta = self.config.smooth_beta
            error = F.smooth_l1_loss(prediction, batch.target, beta=beta, reduction="none")
        return {loss: weighted_mean(error.mean(dim=(1, 2, 3)), batch.weight)}

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return the prediction, ``[B, 1, C, H, W]``; both modes give it, and the temperature changes nothing.

        Raises:
            UnsupportedError: more than one draw, or a direction back.
        """
        self.require_direction(options.direction)
        if noise.num_draws > 1:
            raise UnsupportedError(
                f"family 'regression' has no noise, so its {noise.num_draws} draws would be copies: ask for 1 draw, "
                "or choose a family that samples"
            )
        return self.predict(condition)[:, None]
