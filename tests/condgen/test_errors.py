import pickle

import pytest

from condgen import errors
from condgen.errors import (
    AccessError,
    CheckpointError,
    CondgenError,
    ConfigError,
    ImageError,
    JobError,
    MissingError,
    StorageError,
    nearest,
)

EXAMPLES = [
    ConfigError("train.learning_rate", "x", "a number > 0"),
    CheckpointError("damaged"),
    MissingError("s3://bucket/a", "read", "no such object"),
    AccessError("s3://bucket", "list", "wrong key"),
    ImageError("decode", "UnidentifiedImageError", "not an image"),
    JobError("stopped"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_an_error_survives_the_way_between_processes(error: CondgenError) -> None:
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)
    assert back.exit_code == error.exit_code


def test_an_errors_text_is_one_line() -> None:
    assert str(CheckpointError("two\n  lines")) == "two lines"


def test_a_config_error_says_field_value_and_what_is_allowed() -> None:
    text = str(ConfigError("train.learning_rate", "x", "a number > 0"))
    assert text == "train.learning_rate: got 'x', allowed: a number > 0"


def test_an_unknown_name_gets_the_known_names_and_the_nearest() -> None:
    text = str(ConfigError.unknown("model", "widht", ["width", "multipliers"]))
    assert text == "model: got 'widht', allowed: one of multipliers, width (did you mean 'width'?)"


@pytest.mark.parametrize(
    ("name", "expected"), [("Regresion", "regression"), ("qqq", None), ("color", "color_classifier")]
)
def test_nearest_finds_what_was_meant_or_nothing(name: str, expected: str | None) -> None:
    assert nearest(name, ["regression", "color_classifier"]) == expected


def test_only_a_job_that_started_exits_with_1() -> None:
    assert JobError.exit_code == 1
    others = [e for e in errors.__all__ if e.endswith("Error") and e != "JobError"]
    assert {getattr(errors, name).exit_code for name in others} == {2}


def test_missing_and_access_are_storage_errors_that_carry_the_object() -> None:
    with pytest.raises(StorageError) as caught:
        raise MissingError("s3://bucket/a", "read", "no such object")
    assert (caught.value.uri, caught.value.operation) == ("s3://bucket/a", "read")
    assert str(caught.value) == "could not read s3://bucket/a: no such object"
