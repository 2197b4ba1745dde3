"""What share of a job's images may fail: when a job stops for it, and when one that is complete has failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from condgen.errors import JobError
from pipelines.batch.report import Pace
from pipelines.results.account import Account
from pipelines.storage.store import Store

__all__ = ["check_outcome", "check_rate"]

_RATE_IMAGES = 200
_MOST_ERRORS = 0.9


def check_rate(pace: Pace, most: float | None) -> None:
    """Stop a job that fails too often while there is work left to save.

    Raises:
        JobError: more of its images failed than are allowed.
    """
    share = _MOST_ERRORS if most is None else most
    if pace.images >= _RATE_IMAGES and pace.errors > share * pace.images:
        raise JobError(
            f"{_told(pace.errors, pace.images, pace.kinds)}, more than --max-error-rate {share:g}: what is done is "
            "committed; mend the cause, or allow a higher rate, and run the same command again"
        )


def check_outcome(account: Account, results: Store, most: float | None) -> None:
    """Tell of a job that is complete and all the same no success.

    Raises:
        JobError: every image failed, or more than the user allows.
    """
    again = f"the reasons are in {results.uri}/errors; mend the cause, then --retry-errors"
    if account.errors and account.errors == account.images:
        raise JobError(f"{_told(account.errors, account.images, account.kinds)}, every one: {again}")
    if most is not None and account.errors > most * account.images:
        raise JobError(
            f"{_told(account.errors, account.images, account.kinds)}, more than --max-error-rate {most:g}: all is "
            f"committed, {again}"
        )


def _told(errors: int, images: int, kinds: Mapping[str, int]) -> str:
    most = ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common(5))
    return f"{errors} of {images} images failed ({most})"
