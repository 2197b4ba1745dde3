"""An estimate of the memory that training takes, from one forward pass; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from condgen.base import Batch, ConditionalModel
from condgen.precision import autocast, resolve
from condgen.preset_parts import TrainConfig

__all__ = ["TrainingMemory", "estimate_training_memory"]

_ADAM_MOMENTS = 2


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes that training holds in a worker, beside the program and the data on its way to it.

    Attributes:
        model: bytes of weights and buffers, of their gradients, of AdamW's two moments and of the averaged weights.
        activations: bytes that the backward pass of a phase needs of its forward pass, of the phase with the most.
    """

    model: int
    activations: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.model + self.activations


def estimate_training_memory(
    model: ConditionalModel, batch: Batch, config: TrainConfig, *, num_samples: int
) -> TrainingMemory:
    """Estimate a worker's memory from a forward pass of each phase, on the CPU, in the precision of this machine.

    What is kept for the backward pass grows with the number of samples, and is counted here for a few. Work space of
    convolutions, which a GPU's libraries choose by themselves, is left out.

    Args:
        model: model on the CPU.
        batch: some samples of the size that is trained on.
        config: configuration of the training.
        num_samples: number of samples that the worker computes at a time.
    """
    model.train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    precision = resolve(config.precision, "cuda" if torch.cuda.is_available() else "cpu")
    saved = 0
    for phase in model.phases:
        sizes: dict[int, int] = {}
        kept: list[Any] = []

        def pack(tensor: Tensor, sizes: dict[int, int] = sizes, kept: list[Any] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
                kept.append(storage)  # so that no other gets its address
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast(precision, "cpu"):
            model(batch, phase)
        saved = max(saved, sum(sizes.values()))
    parameters = sum(value.numel() * value.element_size() for value in model.parameters())
    buffers = sum(value.numel() * value.element_size() for value in model.buffers())
    copies = 1 + (config.ema_decay > 0)
    return TrainingMemory(
        model=parameters * (copies + 1 + _ADAM_MOMENTS) + buffers * copies,
        activations=saved * num_samples // batch.num_samples,
    )
