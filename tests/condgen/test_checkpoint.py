import json
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from condgen.base import SampleOptions
from condgen.checkpoint import digest, dump, load
from condgen.checkpoint_files import META_NAME, WEIGHTS_NAME
from condgen.errors import CheckpointError
from condgen.statistics import DatasetStatistics
from tests.condgen.models import FAMILY_NAMES, color_batch, source, tiny


def edit_meta(files: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    return {**files, META_NAME: json.dumps({**json.loads(files[META_NAME]), **changes}).encode()}


def edit_weights(files: dict[str, bytes], **changes: torch.Tensor | None) -> dict[str, bytes]:
    tensors = {**safetensors.torch.load(files[WEIGHTS_NAME]), **changes}
    return {**files, WEIGHTS_NAME: safetensors.torch.save({k: v for k, v in tensors.items() if v is not None})}


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_loaded_model_draws_the_same_bits(family: str) -> None:
    model, batch = tiny(family, seed=3).eval(), color_batch(2)
    model.fit_statistics(DatasetStatistics.of_ab(np.random.default_rng(0).normal(0, 20, (1, 2, 32, 32))))
    loaded, extra = load(dump(model, {"size_px": 16}), expect_family=family)
    assert extra == {"size_px": 16}
    assert loaded.config == model.config
    assert not loaded.training
    for mode in ("draw", "point"):
        options = SampleOptions(mode=mode)
        expected = model.sample(batch.condition, source(2), options)
        assert torch.equal(loaded.sample(batch.condition, source(2), options), expected)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_equal_models_give_equal_bytes_and_digests(family: str) -> None:
    first, second = dump(tiny(family), {"b": 1, "a": 2}), dump(tiny(family), {"a": 2, "b": 1})
    assert first == second == dump(load(first)[0], {"a": 2, "b": 1})
    assert digest(first) == digest(second)
    assert digest(dump(tiny(family, seed=1), {"a": 2, "b": 1})) != digest(first)
    assert digest(dump(tiny(family), {"a": 3, "b": 1})) != digest(first)


def test_loading_leaves_the_callers_random_state_alone() -> None:
    files = dump(tiny("regression"))
    before = torch.get_rng_state()
    load(files)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return dump(tiny("regression"))


def test_another_family_is_refused_by_name(files: dict[str, bytes]) -> None:
    with pytest.raises(CheckpointError, match="'regression', not 'color_classifier'"):
        load(files, expect_family="color_classifier")


@pytest.mark.parametrize("name", [WEIGHTS_NAME, META_NAME])
def test_a_damaged_or_missing_file_is_named(files: dict[str, bytes], name: str) -> None:
    for damaged in (b"", files[name][:-10], files[name][: len(files[name]) // 2], b"\xff\x00" * 50):
        with pytest.raises(CheckpointError, match=name):
            load({**files, name: damaged})
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        load({k: v for k, v in files.items() if k != name})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"family": "gan"}, "unknown here"),
        ({"family": None}, "no family"),
        ({"config": {"widht": 8}}, "did you mean 'width'"),
        ({"config": {"width": "wide"}}, "does not fit"),
        ({"config": []}, "no config"),
        ({"extra": None}, "no extra"),
    ],
)
def test_json_of_another_kind_is_refused(files: dict[str, bytes], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(edit_meta(files, **changes))


def test_weights_of_another_configuration_are_refused(files: dict[str, bytes]) -> None:
    name = "net.head.bias"
    cases: list[tuple[dict[str, torch.Tensor | None], str]] = [
        ({name: None}, "lacks 'net.head.bias'"),
        ({"more": torch.zeros(1)}, "unknown 'more'"),
        ({name: torch.zeros(5)}, r"\[5\]"),
        ({name: torch.zeros(2, dtype=torch.float64)}, "float64"),
    ]
    for changes, message in cases:
        with pytest.raises(CheckpointError, match=message):
            load(edit_weights(files, **changes))


def test_an_extra_that_is_not_json_is_refused() -> None:
    with pytest.raises(CheckpointError, match="JSON"):
        dump(tiny("regression"), {"x": float("nan")})


def test_half_precision_halves_the_file_and_loads_as_the_nearest_weights() -> None:
    model = tiny("regression", width=16)
    whole, half = dump(model), dump(model, weights="fp16")
    assert len(half[WEIGHTS_NAME]) < 0.6 * len(whole[WEIGHTS_NAME])
    loaded, _ = load(half)
    for name, value in model.state_dict().items():
        got = loaded.state_dict()[name]
        assert got.dtype == value.dtype
        assert torch.equal(got, value.half().float())


def test_weights_beyond_half_precision_are_not_stored_as_such() -> None:
    model = tiny("regression")
    with torch.no_grad():
        next(model.parameters()).fill_(1e6)
    with pytest.raises(CheckpointError, match=r"beyond half precision: store the weights as fp32"):
        dump(model, weights="fp16")
