"""Paths from data to noise, and samplers that go back.

config.py    ``PathConfig``, the fields of a configuration that describe a path; no torch
paths.py     paths and parametrizations: alpha(t), sigma(t), and what a network predicts
samplers.py  samplers by name: DDIM, DDPM, DPM-Solver++, Euler, Heun

The family that uses them is ``condgen.families.diffusion``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from condgen.diffusion.config import SAMPLER_NAMES, PathConfig
    from condgen.diffusion.paths import PARAMETRIZATIONS, Parametrization, Path
    from condgen.diffusion.samplers import SAMPLERS, Sampler, find_sampler
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "config": ["SAMPLER_NAMES", "PathConfig"],
            "paths": ["PARAMETRIZATIONS", "Parametrization", "Path"],
            "samplers": ["SAMPLERS", "Sampler", "find_sampler"],
        },
    )

__all__ = [
    "PARAMETRIZATIONS",
    "SAMPLERS",
    "SAMPLER_NAMES",
    "Parametrization",
    "Path",
    "PathConfig",
    "Sampler",
    "find_sampler",
]
