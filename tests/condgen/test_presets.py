from typing import Any

import pytest
import torch

from condgen.errors import ConfigError
from condgen.families import FAMILIES
from condgen.families.crf.config import CrfConfig
from condgen.gan.config import AdversarialConfig
from condgen.nn.config import UNetConfig
from condgen.presets import PRESETS, DataConfig, Preset, TrainConfig, find_preset


def test_every_family_has_a_small_and_a_full_preset() -> None:
    for family in FAMILIES:
        stem = family.replace("_", "-")
        assert {PRESETS[stem].family, PRESETS[f"{stem}-small"].family} == {family}


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_names_and_sizes_fit(name: str) -> None:
    preset = PRESETS[name]
    assert preset.name == name
    if isinstance(preset.model, UNetConfig):
        assert preset.data.size_px % (preset.model.out_stride * 2 ** (len(preset.model.multipliers) - 1)) == 0
    large = isinstance(preset.model, AdversarialConfig)  # hundreds of MB, where shapes do
    with torch.device("meta" if large else "cpu"), torch.random.fork_rng(devices=[]):
        model = FAMILIES[preset.family].model_class(preset.model)
    assert model.config == preset.model


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'color-classifier-small'\?"):
        find_preset("colour-classifier-smal")


def test_a_presets_family_is_that_of_its_model() -> None:
    assert Preset(name="x", summary="", model=CrfConfig()).family == "crf"  # whose configuration is a classifier's too


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (DataConfig, {"size_px": 0}),
        (DataConfig, {"lanes": 3}),
        (DataConfig, {"crop_scale_min": 0.0}),
        (DataConfig, {"aging_share": 1.1}),
        (DataConfig, {"aging_share": 0.5, "task": "pairs"}),
        (TrainConfig, {"steps": 0}),
        (TrainConfig, {"learning_rate": 0.0}),
        (TrainConfig, {"learning_rate": float("nan")}),
        (TrainConfig, {"ema_decay": 1.0}),
        (TrainConfig, {"adam_betas": (0.5, 1.0)}),
        (TrainConfig, {"schedule": "steps"}),
        (TrainConfig, {"max_seconds": -1.0}),
    ],
)
def test_values_that_are_not_allowed_are_refused_by_field(kind: type[Any], values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        kind(**values)
