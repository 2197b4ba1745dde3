import pytest

from condgen.errors import ConfigError
from pipelines.cluster.option_texts import read_count_range, read_seconds, say_seconds


@pytest.mark.parametrize(("text", "counts"), [("1", (1, 1)), ("8", (8, 8)), ("2:16", (2, 16)), ("3:3", (3, 3))])
def test_a_number_or_a_range_of_processes_is_read(text: str, counts: tuple[int, int]) -> None:
    assert read_count_range("--workers", text) == counts


@pytest.mark.parametrize("text", ["", "two", "-1", "4:2", "1:", ":4", "1:2:3", "1.5"])
def test_anything_else_is_refused_with_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match="--workers: got"):
        read_count_range("--workers", text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("30m", 1800), ("12h", 43200), ("2d", 172800), ("1.5h", 5400)],
)
def test_a_time_is_read_and_said_again(text: str, seconds: float) -> None:
    assert read_seconds("--wait-for", text) == seconds
    assert read_seconds("--wait-for", say_seconds(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5m", "5 minutes", "1h30m", "inf", "nan"])
def test_what_is_no_time_is_refused_with_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match="--wait-for: got"):
        read_seconds("--wait-for", text)
