"""Findings of a page about its draws: whether the model copies its input, and whether its draws differ.

Distances are means over pixels and channels of images brought to 64 px, of 255: JPEG at quality 95 is about 1 from
what it was made of.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from PIL import Image

__all__ = ["check_draws", "difference"]

_SIDE_PX = 64
_COPY = 2.0
_SAME = 0.5


def difference(a: Image.Image, b: Image.Image) -> float:
    """Return the mean distance of two images, 0 to 255."""
    small = [np.asarray(image.convert("RGB").resize((_SIDE_PX, _SIDE_PX)), dtype=np.float32) for image in (a, b)]
    return float(np.abs(small[0] - small[1]).mean())


def check_draws(samples: Sequence[tuple[Image.Image | str, Sequence[Image.Image | str]]]) -> list[dict[str, str]]:
    """Return findings of the images shown: name, value, claim, and whether it holds.

    Args:
        samples: each one's input and draws; a text in an image's place says why there is none.
    """
    changes: list[float] = []
    spreads: list[float] = []
    for given, made in samples:
        draws = [draw for draw in made if not isinstance(draw, str)]
        if not isinstance(given, str):
            changes += [difference(given, draw) for draw in draws]
        spreads += [difference(a, b) for a, b in combinations(draws, 2)]
    findings = []
    if changes:
        findings.append(_finding("draws from their input", changes, _COPY, "the model does not just copy its input"))
    if spreads:
        findings.append(_finding("draws of an image from each other", spreads, _SAME, "its noise is not ignored"))
    return findings


def _finding(name: str, distances: Sequence[float], least: float, claim: str) -> dict[str, str]:
    median = statistics.median(distances)
    value = f"{median:.1f} of 255, the median of {len(distances)}"
    return {"name": f"distance of {name}", "value": value, "claim": claim, "holds": "yes" if median >= least else "no"}
