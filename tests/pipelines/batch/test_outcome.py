"""When a batch job that has done all of its work is no success, and when one is stopped."""

from collections import Counter
from pathlib import Path

import pytest

from condgen.errors import JobError
from jobs.cli.batch import JobOptions
from pipelines.batch.job import BatchJob
from pipelines.batch.outcome import check_outcome, check_rate
from pipelines.batch.report import Pace
from pipelines.results.account import Account
from pipelines.storage.store import open_store

ROOT = Path(__file__).resolve().parents[3]


def account(images: int, errors: int) -> Account:
    kinds = Counter({"read HTTP 410": errors} if errors else {})
    return Account(num_draws=2, images=images, draws=2 * (images - errors), errors=errors, kinds=kinds)


@pytest.mark.parametrize(("images", "errors", "most"), [(6, 6, None), (1, 1, 1.0), (10, 2, 0.1), (300, 299, 0.5)])
def test_a_complete_job_fails_if_nothing_was_made_or_more_failed_than_is_allowed(
    images: int, errors: int, most: float | None
) -> None:
    with pytest.raises(JobError, match=rf"{errors} of {images} images failed \({errors} read HTTP 410\).*errors"):
        check_outcome(account(images, errors), open_store("results"), most)


@pytest.mark.parametrize(("images", "errors", "most"), [(0, 0, None), (6, 5, None), (300, 299, None), (10, 1, 0.1)])
def test_a_complete_job_is_a_success_otherwise(images: int, errors: int, most: float | None) -> None:
    check_outcome(account(images, errors), open_store("results"), most)


def test_everything_that_the_users_function_left_out_is_no_failure() -> None:
    check_outcome(Account(num_draws=2, images=5, filtered=5), open_store("results"), None)


@pytest.mark.parametrize(("images", "errors", "most", "stops"), [
    (199, 199, None, False), (200, 181, None, True), (200, 180, None, False), (1000, 901, None, True),
    (200, 21, 0.1, True), (200, 20, 0.1, False), (199, 100, 0.1, False), (200, 200, 1.0, False),
])  # fmt: skip
def test_a_job_with_work_left_stops_past_the_share_that_may_fail(
    images: int, errors: int, most: float | None, stops: bool
) -> None:
    pace = Pace(total=5000, images=images, errors=errors, kinds=Counter({"decode CutFile": errors}))
    if stops:
        with pytest.raises(JobError, match="max-error-rate"):
            check_rate(pace, most)
    else:
        check_rate(pace, most)


def test_the_help_the_page_and_the_code_agree_on_the_default() -> None:
    pace = Pace(total=5000, images=1000, errors=901)
    with pytest.raises(JobError, match=r"--max-error-rate 0\.9:"):
        check_rate(pace, BatchJob(archive="a", results="r", model="m").max_error_rate)
    assert JobOptions().max_error_rate is None
    assert "0.9" in JobOptions.__dataclass_fields__["max_error_rate"].metadata["help"]
    assert "The default, 0.9," in (ROOT / "docs" / "batch.md").read_text()
