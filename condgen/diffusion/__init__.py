"""Paths from data to noise, and samplers that go back.

config.py    ``PathConfig``, the fields of a configuration that describe a path; no torch
paths.py     paths and parametrizations: alpha(t), sigma(t), and what a network predicts
samplers.py  samplers by name: DDIM, DDPM, DPM-Solver++, Euler, Heun

The family that uses them is ``condgen.families.diffusion``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
