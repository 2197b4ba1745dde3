"""All experiments, in the order of the table."""

from __future__ import annotations

from jobs.chapter.claims import Experiment
from jobs.chapter.shirts import EXPERIMENTS as _SHIRTS

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: tuple[Experiment, ...] = (*_SHIRTS,)
