"""The feature extractor of set distances: torchvision's MobileNetV2, its last feature map averaged over the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from condgen.errors import CheckpointError
from pipelines.models.pretrained_weights import INSTALL

__all__ = ["EXTRACTOR", "FEATURE_PX", "NUM_FEATURES", "MobileNetFeatures", "load_extractor"]

EXTRACTOR = "mobilenet_v2"
"""The extractor's name, a part of every result's: `frechet_mobilenet_v2`."""

FEATURE_PX = 224
"""The short side at which features are taken, whatever the evaluation's own is."""

NUM_FEATURES = 1280

# ImageNet's, with which torchvision's weights were trained.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class MobileNetFeatures:
    """Features of MobileNetV2 with ImageNet weights: stride 32, 1280 channels after the last ReLU6, their mean.

    Args:
        network: torchvision's `mobilenet_v2().features`, in `eval()` mode.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = _fused(network.eval()).to(memory_format=torch.channels_last)
        self._device = next(network.parameters()).device
        self._mean = torch.tensor(_MEAN, device=self._device).reshape(3, 1, 1)
        self._std = torch.tensor(_STD, device=self._device).reshape(3, 1, 1)

    @torch.inference_mode()
    def __call__(self, codes: Tensor) -> NDArray[np.float32]:
        """Return the features of images ``[N, 3, H, W]`` uint8, sRGB: ``[N, 1280]`` float32."""
        scale = FEATURE_PX / min(codes.shape[-2:])
        size: Sequence[int] = [max(FEATURE_PX, round(side * scale)) for side in codes.shape[-2:]]
        unit = codes.to(self._device).float() / 255
        if list(codes.shape[-2:]) != size:
            unit = F.interpolate(unit, size=size, mode="bilinear", antialias=True)
        x = ((unit - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        features: NDArray[np.float32] = self._network(x).mean(dim=(2, 3)).float().cpu().numpy()
        return features


def _fused(module: nn.Module) -> nn.Module:
    """Put each batch norm into the convolution before it, which saves a quarter of the time."""
    before = ""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and isinstance(getattr(module, before, None), nn.Conv2d):
            setattr(module, before, fuse_conv_bn_eval(getattr(module, before), child))
            setattr(module, name, nn.Identity())
        else:
            _fused(child)
        before = name
    return module


def load_extractor(state: Mapping[str, Tensor]) -> MobileNetFeatures:
    """Make the extractor on this process's device.

    Args:
        state: torchvision's weights by name, see `pipelines.models.pretrained_weights.read_weights`.

    Raises:
        CheckpointError: it is something else.
    """
    from torchvision.models import mobilenet_v2

    model = mobilenet_v2(weights=None)
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        raise CheckpointError(f"these are not torchvision's weights of MobileNetV2; to have them: {INSTALL}") from error
    return MobileNetFeatures(model.features.to("cuda" if torch.cuda.is_available() else "cpu"))
