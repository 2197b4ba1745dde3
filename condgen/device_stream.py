"""A stream of a thread's own, so that small work on a GPU doesn't queue up behind a model's."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

__all__ = ["own_stream"]

_streams = threading.local()


def own_stream(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which this thread's work on a GPU doesn't wait for that of others, such as a model's."""
    if device.type != "cuda":
        return nullcontext()
    streams = _streams.__dict__
    if device not in streams.setdefault("by_device", {}):
        streams["by_device"][device] = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
    return torch.cuda.stream(streams["by_device"][device])
