"""Presets of ``color_classifier``. Free of torch."""

from __future__ import annotations

from dataclasses import replace

from condgen.families.color_classifier.config import ColorClassifierConfig
from condgen.families.preset_settings import PAIRS, TASK_TRAIN, TASK_UNET, small_and_full
from condgen.preset_parts import Preset

__all__ = ["PRESETS"]

PRESETS = (
    *small_and_full(ColorClassifierConfig),
    Preset(  # a label map is a grey image whose C classes are C even levels from black to white
        name="classifier-labels",
        summary="photo to label map of 8 classes, 64 px, some minutes on a CPU; full size: color-classifier",
        model=ColorClassifierConfig(
            **TASK_UNET, condition_channels=3, target_channels=1, bins="uniform", num_bins=8, point="argmax"
        ),
        data=PAIRS,
        train=replace(TASK_TRAIN, steps=300),
    ),
)
