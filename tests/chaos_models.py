"""The model of the chaos test, as a user would give it: `--model chaos_models:Poisoned`.

It runs in workers that know nothing of the tests, from the folder in which the command is run.
"""

import os
import signal
import time
from pathlib import Path

import torch

from condgen.base import Condition, SampleOptions
from condgen.families.color_classifier.config import ColorClassifierConfig
from condgen.families.color_classifier.model import ColorClassifier
from condgen.noise import NoiseSource

__all__ = ["Poisoned"]

_BRIGHTER_THAN_ANY_PHOTOGRAPH = 0.99


class Poisoned(ColorClassifier):
    """A small colour classifier with its first weights, whose process dies at a picture that is white all over.

    While the file that `CHAOS_BRAKE` names is there, it waits before each batch: so a job lasts as long as its chaos.
    """

    size_px = 32

    def __init__(self) -> None:
        super().__init__(ColorClassifierConfig(width=8, multipliers=(1, 2), blocks_per_level=1, out_stride=4))

    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> torch.Tensor:
        brake = os.environ.get("CHAOS_BRAKE")
        while brake and Path(brake).exists():
            time.sleep(0.05)
        if bool((condition.image.mean(dim=(1, 2, 3)) > _BRIGHTER_THAN_ANY_PHOTOGRAPH).any()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().sample(condition, noise, options)
