"""Checkpoints: what they hold of a loop, how they are written while training goes on, and how they are loaded.

    in the step     copies of all tensors on the CPU, the state, the rows      training stands still
    in a thread     safetensors, digests, upload; complete.json last           training goes on

One checkpoint at a time is on its way: the next one waits for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from condgen import checkpoint
from condgen.base import ConditionalModel
from condgen.checkpoint_files import META_NAME, WEIGHTS_NAME
from condgen.errors import CheckpointError
from pipelines.storage.store import json_bytes
from pipelines.training.checkpoint_names import CheckpointName
from pipelines.training.feed import Position
from pipelines.training.loop import Loop, state_from_json
from pipelines.training.run_folder import METRICS, MetricRow, RunFolder, rows_to_bytes

__all__ = ["CheckpointWriter", "Snapshot", "load_raw_model", "restore"]

_STATE, _OPTIMIZER, _RAW = "state.json", "optimizer.safetensors", "raw.safetensors"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All that a checkpoint holds, apart from the loop, which goes on.

    Attributes:
        step: number of optimizer steps done.
        model: model whose family and configuration it is; its weights have gone on.
        raw: weights and buffers of the model, on the CPU.
        averaged: those of the averaged model; the same object where nothing is averaged.
        optimizers: the optimizers' tensors, by phase, parameter and name.
        state: content of state.json.
        rows: rows of metrics until then.
        extra: values that model.json keeps.
        weights: number format of the averaged weights on disk.
    """

    step: int
    model: ConditionalModel = field(repr=False)
    raw: Mapping[str, Tensor] = field(repr=False)
    averaged: Mapping[str, Tensor] = field(repr=False)
    optimizers: Mapping[str, Tensor] = field(repr=False)
    state: bytes = field(repr=False)
    rows: Sequence[MetricRow] = field(repr=False)
    extra: Mapping[str, Any] = field(repr=False)
    weights: Literal["fp32", "fp16"]

    @classmethod
    def of(
        cls, loop: Loop, position: Mapping[str, Any], rows: Sequence[MetricRow], extra: Mapping[str, Any]
    ) -> Snapshot:
        """Copy what a checkpoint of a loop holds.

        Args:
            loop: loop between two steps.
            position: position in the stream, as the feed saves it.
            rows: rows of metrics until now.
            extra: values that model.json keeps, without the step.
        """
        raw = _copied(loop.model.state_dict())
        return cls(
            step=loop.state.step,
            model=loop.model,
            raw=raw,
            averaged=raw if loop.averaged is loop.model else _copied(loop.averaged.state_dict()),
            optimizers=_copied(_optimizer_tensors(loop)),
            state=json_bytes({"loop": loop.state.to_json(), "stream": position}),
            rows=tuple(rows),
            extra={**extra, "step": loop.state.step},
            weights=loop.config.stored_weights,
        )

    def files(self) -> dict[str, bytes]:
        """Return the checkpoint's files, without its mark."""
        from safetensors.torch import save

        return {
            **checkpoint.dump(self.model, self.extra, weights=self.weights, tensors=self.averaged),
            _RAW: checkpoint.dump(self.model, {}, tensors=self.raw)[WEIGHTS_NAME],
            _OPTIMIZER: save(dict(self.optimizers)),
            _STATE: self.state,
            METRICS: rows_to_bytes(self.rows),
        }


class CheckpointWriter:
    """Writes checkpoints in a thread, one at a time.

    Args:
        folder: folder of the run, with the writer's fence.
        keep_best: number of checkpoints that are kept for their loss, besides the newest two (default 0).
        validate_every: steps between validations, whose loss then counts (default: the training loss counts).
        on_saved: function that is called with the name of each checkpoint that is complete, in the thread (default:
            none).
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        keep_best: int = 0,
        validate_every: int = 0,
        on_saved: Callable[[CheckpointName], object] | None = None,
    ) -> None:
        self._folder = folder
        self._keep_best, self._validate_every = keep_best, validate_every
        self._on_saved = on_saved
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._on_its_way: Future[None] | None = None
        self._stalled_s = 0.0

    def save(self, take: Callable[[], Snapshot]) -> None:
        """Take a snapshot and write it while training goes on; first wait for the one before.

        Args:
            take: function that takes the snapshot.

        Raises:
            FencedError: another writer has taken the run over, as the checkpoint before this one found.
            StorageError, CheckpointError: that checkpoint could not be written.
        """
        began = time.monotonic()
        try:
            self._join()
            self._on_its_way = self._thread.submit(self._write, take())
        finally:
            self._stalled_s += time.monotonic() - began

    def wait(self) -> None:
        """Wait until the checkpoint on its way is complete.

        Raises:
            FencedError, StorageError, CheckpointError: as ``save``.
        """
        began = time.monotonic()
        try:
            self._join()
        finally:
            self._stalled_s += time.monotonic() - began

    def take_stalled_s(self) -> float:
        """Return the time that training stood still for checkpoints since the last call (s)."""
        stalled_s, self._stalled_s = self._stalled_s, 0.0
        return stalled_s

    def _join(self) -> None:
        on_its_way, self._on_its_way = self._on_its_way, None
        if on_its_way is not None:
            on_its_way.result()

    def _write(self, snapshot: Snapshot) -> None:
        # Rows first: a cut between the two leaves rows that the resumed run drops, never a gap.
        self._folder.write_metrics(snapshot.rows)
        loss = snapshot.rows[-1].loss if snapshot.rows else None
        name = self._folder.save_checkpoint(
            snapshot.step,
            snapshot.files(),
            loss=loss,
            keep_best=self._keep_best,
            validate_every=self._validate_every,
        )
        if self._on_saved is not None:
            self._on_saved(name)


def load_raw_model(files: Mapping[str, bytes]) -> ConditionalModel:
    """Return the model of a checkpoint as it was trained, not its average.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    return _load(_RAW, files)


def restore(loop: Loop, files: Mapping[str, bytes], position: Callable[[Mapping[str, Any]], Position]) -> None:
    """Set a loop whose model has the raw weights to where a checkpoint was taken.

    Args:
        loop: loop that has not begun.
        files: files of the checkpoint.
        position: function that returns the position in the stream that a checkpoint saved.

    Raises:
        CheckpointError: the files are of another version.
    """
    try:
        saved = json.loads(files[_STATE])
        loop.state = state_from_json(saved["loop"], position(saved["stream"]))
        if loop.averaged is not loop.model:
            loop.averaged.load_state_dict(_load(WEIGHTS_NAME, files).state_dict())
        _load_optimizers(loop, files[_OPTIMIZER])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the newest checkpoint is of another version of condgen ({error}): start anew in another folder"
        ) from error


def _load(weights: str, files: Mapping[str, bytes]) -> ConditionalModel:
    model, _ = checkpoint.load(
        {name: files[file] for name, file in ((WEIGHTS_NAME, weights), (META_NAME, META_NAME)) if file in files}
    )
    return model


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU; on the CPU too, where training goes on in the tensors themselves."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def _parameter_names(loop: Loop, phase: str) -> list[str]:
    names = {id(parameter): name for name, parameter in loop.model.named_parameters()}
    return [names[id(parameter)] for group in loop.optimizers[phase].param_groups for parameter in group["params"]]


def _optimizer_tensors(loop: Loop) -> dict[str, Tensor]:
    """Return the optimizers' tensors by phase, parameter and name: as safetensors, loading them runs no code."""
    tensors = {}
    for phase, optimizer in loop.optimizers.items():
        names = _parameter_names(loop, phase)
        for index, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                tensors[f"{phase}/{names[index]}/{key}"] = value
    return tensors


def _load_optimizers(loop: Loop, data: bytes) -> None:
    from safetensors.torch import load

    tensors, parameters = load(data), dict(loop.model.named_parameters())
    for phase, optimizer in loop.optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for index, name in enumerate(_parameter_names(loop, phase)):
            prefix = f"{phase}/{name}/"
            values = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if values:
                state[index] = {key: _laid_out(value, parameters[name]) for key, value in values.items()}
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """Return what an optimizer knows of a parameter in its memory format: fused ones take both as they lie."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, device="cpu", requires_grad=False).copy_(value)
