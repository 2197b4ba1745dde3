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

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
