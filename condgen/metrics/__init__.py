"""How good images are, as pure functions: against the truth, as a distribution of draws, and as a set.

`docs/evaluation.md` says what each means, its formula and its source; `pipelines.evaluation` takes them over results.
"""

from __future__ import annotations

from condgen.metrics.color import ab_cells, ab_distance, auc_balanced, auc_raw, chroma, colorfulness, count_hits
from condgen.metrics.distribution import draw_diversity, energy_score, pair_distance, rms_norm, total_variation
from condgen.metrics.fidelity import psnr, ssim
from condgen.metrics.likelihood import marginal_ab_nll

__all__ = [
    "ab_cells",
    "ab_distance",
    "auc_balanced",
    "auc_raw",
    "chroma",
    "colorfulness",
    "count_hits",
    "draw_diversity",
    "energy_score",
    "marginal_ab_nll",
    "pair_distance",
    "psnr",
    "rms_norm",
    "ssim",
    "total_variation",
]
