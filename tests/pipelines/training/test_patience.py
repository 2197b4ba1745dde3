"""Storage that gives no answer is asked again, for a while."""

import pytest

from condgen.errors import AccessError, Interrupted, StorageError
from pipelines.training import patience
from pipelines.training.patience import patiently

OUT = StorageError("s3://bucket/run", "list", "no answer", passes=True)


class Clock:
    """Time that passes by pauses alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now_s)

    def pause(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_storage_that_comes_back_has_cost_a_wait(clock: Clock) -> None:
    told: list[str] = []

    def ask() -> int:
        if clock.now_s < 120:
            raise OUT
        return 7

    assert patiently(ask, tell=told.append, pause=clock.pause) == 7
    assert clock.now_s == 120
    assert set(told) == {"the storage gives no answer (could not list s3://bucket/run: no answer)"}


def test_storage_that_stays_away_is_an_error_after_five_minutes(clock: Clock) -> None:
    def ask() -> int:
        raise OUT

    with pytest.raises(StorageError) as caught:
        patiently(ask, tell=lambda _: None, pause=clock.pause)
    assert caught.value is OUT
    assert 300 <= clock.now_s <= 310


def test_an_answer_that_stays_is_not_waited_for(clock: Clock) -> None:
    def ask() -> int:
        raise AccessError("s3://bucket/run", "list", "denied")

    with pytest.raises(AccessError):
        patiently(ask, tell=lambda _: None, pause=clock.pause)
    assert clock.now_s == 0


def test_what_ends_a_pause_ends_the_wait() -> None:
    def ask() -> int:
        raise OUT

    def pause(_: float) -> None:
        raise Interrupted("SIGTERM")

    with pytest.raises(Interrupted):
        patiently(ask, tell=lambda _: None, pause=pause)
