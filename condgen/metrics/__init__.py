"""How good images are, as pure functions: against the truth, as a distribution of draws, and as a set.

color.py         colorfulness, distances in ab, and the accuracy curves of Zhang et al.
fidelity.py      PSNR and SSIM
distribution.py  energy score, diversity and total variation of K draws
sets.py          Fréchet's and a kernel's distance between two sets of images
likelihood.py    the likelihood of true colors under the training set's colors
calibration.py   the reliability of a categorical model
bleeding.py      color that bleeds over edges
resampling.py    bootstrap intervals, and the sign-flip test of paired differences

`docs/evaluation.md` says what each means, its formula and its source. `pipelines.evaluation` measures images with them:
`measures.py` has the columns, `values.py` the table of metrics.
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
