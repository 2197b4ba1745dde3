import pytest
import torch

from condgen.errors import ConfigError
from condgen.precision import PRECISIONS, autocast, resolve


@pytest.mark.parametrize("precision", PRECISIONS[1:])
@pytest.mark.parametrize("device", ["cpu", "cuda", torch.device("cuda", 1)])
def test_what_is_asked_for_is_what_is_meant(precision: str, device: torch.device | str) -> None:
    assert resolve(precision, device) == precision


@pytest.mark.parametrize(
    ("device", "has_bf16", "expected"), [("cpu", True, "fp32"), ("cuda:0", True, "bf16"), ("cuda", False, "fp16")]
)
def test_auto_is_the_fastest_that_the_device_has(
    device: str, has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    assert resolve("auto", device) == expected


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'fp16'"):
        resolve("fp61", "cpu")
    with pytest.raises(ConfigError, match="precision: got 'auto'"):
        autocast("auto", "cpu")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_layer_runs_in_it_and_keeps_its_weights(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with torch.inference_mode(), autocast(precision, "cpu"):
        assert layer(torch.ones(1, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32
    assert layer(torch.ones(1, 4)).dtype == torch.float32
