"""Trained models in storage: a run of `condgen train`, or a checkpoint's folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from condgen import checkpoint
from condgen.base import ConditionalModel
from condgen.errors import CheckpointError, ConfigError, MissingError
from pipelines.batch import PictureTask
from pipelines.colour import ColourTask
from pipelines.storage import Store

__all__ = ["LoadedModel", "load_model", "picture_task", "read_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model, the digest of its files, and what was saved beside its weights (preset, size, training state)."""

    model: ConditionalModel
    digest: str
    extra: dict[str, Any]


def read_model(store: Store) -> dict[str, bytes]:
    """The files of a model: those at the root of a finished run or checkpoint, else a run's newest checkpoint.

    Raises:
        CheckpointError: there is no model.
        MissingError, AccessError: the place can't be read.
    """
    names = {entry.name for entry in store.list()}
    folders = sorted({name.rpartition("/")[0] for name in names if name.endswith("/complete.json")}, reverse=True)
    for folder in ["", *folders]:
        prefix = f"{folder}/" if folder else ""
        if all(prefix + file in names for file in checkpoint.FILES):
            return {file: store.read(prefix + file) for file in checkpoint.FILES}
    if not names:
        raise MissingError(store.uri, "read the model in", "there is nothing there")
    raise CheckpointError(
        f"{store.uri} has no {' and '.join(checkpoint.FILES)}: name the folder of a run of `condgen train`"
    )


def load_model(store: Store, *, expect_digest: str | None = None) -> LoadedModel:
    """Load a model.

    Raises:
        CheckpointError: it is damaged, or (with `expect_digest`) another than the plan was made with.
    """
    files = read_model(store)
    digest = checkpoint.digest(files)
    if expect_digest is not None and digest != expect_digest:
        raise CheckpointError(f"{store.uri} holds another model than the plan was made with: run the job again")
    model, extra = checkpoint.load(files)
    return LoadedModel(model=model, digest=digest, extra=dict(extra))


def picture_task(loaded: LoadedModel) -> PictureTask[Any]:
    """The task of a model: how pictures go in and come out.

    Raises:
        ConfigError: the model was not trained for pictures' colour, or its size was not saved.
    """
    size_px = loaded.extra.get("size_px")
    if not isinstance(size_px, int) or size_px < 1:
        raise ConfigError("model", loaded.model.family, "a colour model with its size_px, as `condgen train` saves it")
    return ColourTask(size_px)
