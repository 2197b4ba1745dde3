"""Ray's wrappers are taken off: the error that a user is shown is the one that was raised on purpose."""

import pytest
from ray.exceptions import RayTaskError, WorkerCrashedError

from condgen.errors import ConfigError, DatasetError, JobError, StorageError
from pipelines.cluster.errors import unwrap

MISTAKE = ConfigError("a.b", 1, "2")


def wrapped(error: Exception) -> Exception:
    """An error as `ray.get` raises it: a RayTaskError that is of the error's own class too."""
    return RayTaskError("do", "traceback", error).as_instanceof_cause()


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MISTAKE,
        wrapped(MISTAKE),
        wrapped(wrapped(MISTAKE)),
        RayTaskError("do", "traceback", MISTAKE),
        chained(RuntimeError("UDF failed"), MISTAKE),
        wrapped(chained(RuntimeError("UDF failed"), wrapped(MISTAKE))),
    ],
)
def test_what_ray_wraps_is_the_very_error_that_was_raised(error: Exception) -> None:
    assert unwrap(error) is MISTAKE


@pytest.mark.parametrize("error", [ZeroDivisionError(), wrapped(ZeroDivisionError()), WorkerCrashedError()])
def test_what_was_not_raised_on_purpose_is_none_of_ours(error: Exception) -> None:
    assert unwrap(error) is None


def test_an_error_of_ours_that_tells_of_another_is_the_one_that_counts() -> None:
    told = chained(DatasetError("no manifest"), StorageError("s3://b/k", "read", "it is cut"))
    assert unwrap(told) is told
    lost = chained(JobError("the cluster fails again and again"), WorkerCrashedError())
    assert unwrap(lost) is lost


def test_a_bug_in_the_handling_of_an_error_of_ours_stays_a_bug() -> None:
    bug = ZeroDivisionError()
    bug.__context__ = MISTAKE  # as of `except ConfigError: 1 / 0`
    assert unwrap(bug) is None


def test_a_chain_that_is_a_circle_ends() -> None:
    first, second = RuntimeError(), RuntimeError()
    first.__cause__, second.__cause__ = second, first
    assert unwrap(first) is None
