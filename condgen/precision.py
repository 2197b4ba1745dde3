"""The number format in which a model runs: its weights stay float32, and autocast lowers what may be lowered."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias, cast, get_args

import torch

from condgen.checks import check_choice

__all__ = ["PRECISIONS", "Precision", "autocast", "resolve"]

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[str, ...] = ("auto", *get_args(Precision))
"""The precisions that can be asked for."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(precision: str, device: torch.device | str) -> Precision:
    """Return the resolved precision: ``auto`` is bf16 on a GPU that has it, fp16 on an older one, else fp32.

    A plan holds the resolved one, since it decides the bytes.

    Raises:
        ConfigError: none of ``PRECISIONS``.
    """
    check_choice("precision", precision, PRECISIONS)
    if precision != "auto":
        return cast("Precision", precision)
    if torch.device(device).type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(precision: str, device: torch.device | str) -> AbstractContextManager[object]:
    """Return the context in which a model runs in a resolved precision; for fp32 it does nothing.

    Raises:
        ConfigError: not a resolved precision.
    """
    check_choice("precision", precision, get_args(Precision))
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=_DTYPES[precision])
