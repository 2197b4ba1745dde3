"""All experiments, in the order of the table."""

from __future__ import annotations

from jobs.chapter.ball import EXPERIMENTS as _BALL
from jobs.chapter.claims import Experiment
from jobs.chapter.shapes import EXPERIMENTS as _SHAPES
from jobs.chapter.shirts import EXPERIMENTS as _SHIRTS
from jobs.chapter.shirts_gan import EXPERIMENTS as _SHIRTS_GAN
from jobs.chapter.shirts_joint import EXPERIMENTS as _SHIRTS_JOINT
from jobs.chapter.shirts_pixels import EXPERIMENTS as _SHIRTS_PIXELS
from jobs.chapter.stripes import EXPERIMENTS as _STRIPES
from jobs.chapter.two_sets import EXPERIMENTS as _TWO_SETS

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: tuple[Experiment, ...] = (
    *_SHIRTS,
    *_SHIRTS_PIXELS,
    *_SHIRTS_GAN,
    *_SHIRTS_JOINT,
    *_BALL,
    *_STRIPES,
    *_TWO_SETS,
    *_SHAPES,
)
