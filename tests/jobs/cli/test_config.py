"""A configuration is a preset, over it a file, over it --set; what is wrong is said in the user's words."""

from pathlib import Path

import pytest

from condgen.errors import ConfigError, MissingError
from condgen.presets import PRESETS, find_preset
from jobs.cli.config import describe_type, fill, parse_yaml, render, resolve, to_tree


def test_without_changes_it_is_the_preset() -> None:
    for name in PRESETS:
        assert resolve(name) == find_preset(name)


def test_set_outranks_the_file_which_outranks_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train: {steps: 7, batch_size: 5}\nmodel.width: 16\n")
    got = resolve("regression-small", file=str(file), assignments=["train.steps=9"])
    base = find_preset("regression-small")
    assert (got.train.steps, got.train.batch_size, got.model.width) == (9, 5, 16)
    assert got.train.learning_rate == base.train.learning_rate
    assert got.data == base.data


def test_the_last_of_two_assignments_counts() -> None:
    assert resolve("regression-small", assignments=["train.steps=9", "train.steps=8"]).train.steps == 8


def test_what_is_rendered_is_read_back_as_the_same_configuration(tmp_path: Path) -> None:
    first = resolve("color-classifier-small", assignments=["model.multipliers=[1, 2]", "train.learning_rate=1e-3"])
    file = tmp_path / "run.yaml"
    file.write_text(render(first))
    assert resolve(None, file=str(file)) == first
    assert to_tree(first)["model"]["multipliers"] == [1, 2]


@pytest.mark.parametrize(
    ("assignment", "nearest"),
    [
        ("model.widht=3", "model.width"),
        ("width=3", "model.width"),
        ("train.lr=3", "train.learning_rate"),
        ("trian.steps=3", "train.steps"),
        ("model.steps=3", "train.steps"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(assignment: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"'{nearest}'"):
        resolve("regression-small", assignments=[assignment])


def test_a_misspelt_name_in_a_file_is_an_error_as_well(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train:\n  stepz: 3\n")
    with pytest.raises(ConfigError, match=r"train\.stepz.*'train\.steps'"):
        resolve("regression-small", file=str(file))


@pytest.mark.parametrize(
    ("assignment", "allowed"),
    [
        ("train.steps=3.7", "a whole number"),
        ("train.steps='3'", "a whole number"),
        ("train.steps=true", "a whole number"),
        ("train.steps=", "a whole number"),
        ("train.steps=1:30", "a whole number"),
        ("train.steps=2026-01-01", "a whole number"),
        ("train.learning_rate=fast", "a number"),
        ("train.learning_rate=.nan", "a number"),
        ("train.learning_rate=.inf", "a number"),
        ("data.flip=no", "true or false"),
        ("data.flip=1", "true or false"),
        ("model.multipliers=3", "a list of whole numbers"),
        ("model.multipliers=[1, two]", "a list of whole numbers"),
        ("train.steps=0", "a number >= 1"),
        ("train=3", "a mapping of"),
        ("train.steps", "NAME=VALUE"),
        ("train.steps=[1", "YAML"),
    ],
)
def test_a_wrong_value_names_the_field_and_what_is_allowed(assignment: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=allowed) as caught:
        resolve("regression-small", assignments=[assignment])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("3", 3),
        ("-0.5", -0.5),
        ("true", True),
        ("no", "no"),
        ("null", None),
        ("1:30", "1:30"),
        ("[1, 2]", [1, 2]),
    ],
)
def test_values_mean_what_people_write(text: str, value: object) -> None:
    got = parse_yaml(text, name="x")
    assert got == value
    assert type(got) is type(value)


def test_a_key_that_repeats_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="twice"):
        parse_yaml("steps: 1\nsteps: 2\n", name="x")


def test_yaml_that_would_make_an_object_is_refused() -> None:
    with pytest.raises(ConfigError, match="YAML"):
        parse_yaml("!!python/object/apply:os.getcwd []", name="x")


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"none\.yaml"):
        resolve("regression-small", file=str(tmp_path / "none.yaml"))


def test_no_preset_at_all_points_to_the_list() -> None:
    with pytest.raises(ConfigError, match="condgen models"):
        resolve(None)


def test_fields_left_out_keep_their_defaults() -> None:
    config_class = type(find_preset("regression").model)
    assert fill(config_class, {"width": 128}, section="model") == config_class(width=128)


def test_types_are_described_in_words() -> None:
    assert describe_type(int | None) == "a whole number or null"
    assert describe_type(tuple[float, ...]) == "a list of numbers"
