"""The demo's claims are measured: is color there, and is the true color more probable than by chance?

The classifier's draws and the L2 regressor's points are evaluated on the held-out images as `condgen evaluate` does it.
"""

from __future__ import annotations

from dataclasses import dataclass

from condgen.errors import DatasetError
from jobs.evaluation.evaluate import run
from pipelines.evaluation.options import EvaluateOptions
from pipelines.evaluation.summary import Values

__all__ = ["DemoClaims", "measure_claims"]


@dataclass(frozen=True, kw_only=True)
class DemoClaims:
    """The measurements, as means over images.

    Attributes:
        num_images: number of images with draws.
        grey, points, draws, originals: colorfulness of each.
        nll, marginal_nll: negative log-likelihood of the true ab bins (nats a pixel of the model's grid).
    """

    num_images: int
    grey: float
    points: float
    draws: float
    originals: float
    nll: float
    marginal_nll: float

    def claims(self) -> list[tuple[str, bool]]:
        """Return each claim, and whether the numbers bear it out."""
        draws, nll = f"{self.draws:.1f}", f"{self.nll:.2f} < {self.marginal_nll:.2f} nats/pixel"
        return [
            (f"draws are more colorful than the grey image: {draws} > {self.grey:.1f}", self.draws > self.grey),
            (f"draws are more colorful than L2's: {draws} > {self.points:.1f}", self.draws > self.points),
            (f"the true colors are more probable than by chance: {nll}", self.nll < self.marginal_nll),
        ]

    def lines(self) -> list[str]:
        """Return the measurements and claims, line by line."""
        means = f"grey {self.grey:.1f}, L2 {self.points:.1f}, draws {self.draws:.1f}, originals {self.originals:.1f}"
        return [
            f"Measured on {self.num_images} held-out images",
            f"  colorfulness    {means}",
            f"  ab, nats/pixel  classifier {self.nll:.3f}, training set's marginal {self.marginal_nll:.3f}",
            *(f"  {'holds' if holds else 'FAILS'}           {text}" for text, holds in self.claims()),
        ]

    def findings(self) -> list[dict[str, str]]:
        """Return the claims for the report, each a row of name, value, claim and whether it holds."""
        more_than_grey, more_than_l2, likelier = ("yes" if holds else "no" for _, holds in self.claims())
        draws, nll = f"{self.draws:.1f}", f"{self.nll:.3f} nats/pixel"
        return [
            _finding("colorfulness of draws", draws, f"more than grey ({self.grey:.1f})", more_than_grey),
            _finding("colorfulness of draws", draws, f"more than L2 ({self.points:.1f})", more_than_l2),
            _finding("true ab", nll, f"less than under the marginal ({self.marginal_nll:.3f})", likelier),
        ]


def _finding(name: str, value: str, claim: str, holds: str) -> dict[str, str]:
    return {"name": name, "value": value, "claim": claim, "holds": holds}


def measure_claims(*, draws: str, points: str, verbose: bool = False) -> DemoClaims:
    """Evaluate both results, which leaves an evaluation beside each, and return what the demo claims of them.

    Args:
        draws: results of the classifier on the archive, K draws each.
        points: results of the regressor on the same archive, one point prediction each.
        verbose: whether Ray's own lines are shown (default False).

    Raises:
        DatasetError: there is nothing to measure, or the model is no classifier of colors.
    """
    # Distances of sets say little of so few images.
    of_draws, of_points = (
        run(EvaluateOptions(results=place, weights="none", resamples=200), verbose=verbose) for place in (draws, points)
    )
    values = of_draws.values
    if "marginal_nll" not in values:
        raise DatasetError(f"{draws} was not made by a color classifier that is still there: run the demo with --fresh")
    return DemoClaims(
        num_images=of_draws.facts["images"],
        grey=_value(values, "colorfulness", "grey"),
        points=_value(of_points.values, "colorfulness", "point"),
        draws=_value(values, "colorfulness", "draws"),
        originals=_value(values, "colorfulness", "reference"),
        nll=_value(values, "nll", "reference"),
        marginal_nll=_value(values, "marginal_nll", "reference"),
    )


def _value(values: Values, metric: str, answer: str) -> float:
    return values[metric][answer].value
