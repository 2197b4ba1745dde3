"""Every error that condgen raises on purpose.

    CondgenError                 exit code 2: what the user asked for can't be done as it was asked
    ├── ConfigError              a field of a configuration: what it got, what is allowed
    ├── DatasetError             a dataset that is damaged, empty or of another kind
    ├── CheckpointError          a checkpoint that is damaged or of another family
    ├── UnsupportedError         something that a model family does not have
    ├── StorageError             an object and the operation that failed on it, after retries
    │   ├── MissingError         a path or bucket that is not there
    │   └── AccessError          credentials that are wrong or don't suffice
    ├── ImageError               what one image itself did; becomes a row of ``errors/``
    ├── JobError                 exit code 1: a job that started and could not end well
    └── Interrupted              exit code 75: a job that was stopped from outside, to be started again

The text of each is one line that says what is wrong and, where it isn't plain, what to do. All of them can be
pickled, so that they survive the way from a worker to the driver.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AccessError",
    "CheckpointError",
    "CondgenError",
    "ConfigError",
    "DatasetError",
    "ImageError",
    "Interrupted",
    "JobError",
    "MissingError",
    "StorageError",
    "UnsupportedError",
    "nearest",
]


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` that ``name`` most likely meant, or None where none is similar."""
    by_fold = {known.casefold(): known for known in names}
    folded = name.casefold()
    matches = difflib.get_close_matches(folded, list(by_fold), n=1, cutoff=0.5)
    matches += [known for known in by_fold if folded and known.startswith(folded)]
    return by_fold[matches[0]] if matches else None


class CondgenError(Exception):
    """The root of the tree: ``except CondgenError`` catches whatever condgen raises on purpose."""

    exit_code = 2

    def __str__(self) -> str:
        return " ".join(self.message().split())

    def message(self) -> str:
        """Return the text before it is folded into one line."""
        return str(self.args[0]) if self.args else type(self).__name__


class ConfigError(CondgenError):
    """A field of a configuration has a value that is not allowed.

    Args:
        field: the field's dotted name, as ``--set`` takes it (``train.learning_rate``).
        got: value that was refused.
        allowed: allowed values, in words.
    """

    def __init__(self, field: str, got: object, allowed: str) -> None:
        super().__init__(field, got, allowed)
        self.field = field
        self.got = got
        self.allowed = allowed

    @classmethod
    def unknown(cls, field: str, got: str, names: Iterable[str]) -> ConfigError:
        """Return the error for a name that is in no table: it lists the known names and the nearest."""
        known = sorted(names)
        near = nearest(got, known)
        hint = f" (did you mean {near!r}?)" if near else ""
        return cls(field, got, f"one of {', '.join(known)}{hint}")

    def message(self) -> str:
        return f"{self.field}: got {self.got!r}, allowed: {self.allowed}"


class DatasetError(CondgenError):
    """A dataset is damaged, empty or not of the kind that was asked for."""


class CheckpointError(CondgenError):
    """A checkpoint is damaged, or not of the family or format that was asked for."""


class UnsupportedError(CondgenError):
    """The model family does not have what was asked for, such as draws without noise or a likelihood."""


class StorageError(CondgenError):
    """An operation on stored data failed, after retries.

    Args:
        uri: URI of the object, without credentials.
        operation: operation that failed, as a verb (``read``, ``write``, ``list``).
        reason: reason for the failure and what to do, in a line.
        code: the storage's own code, such as ``HTTP 410`` (default: none is known).
        summary: canonical reason, without addresses, times and local paths (default: the reason).
        scope: ``object`` where the failure is that object's own, ``storage`` where every object's, or ``unclear``.
        passes: whether another try may succeed, some time later or from another machine.
    """

    def __init__(
        self,
        uri: str,
        operation: str,
        reason: str,
        code: str = "",
        summary: str = "",
        scope: str = "unclear",
        passes: bool = False,
    ) -> None:
        super().__init__(uri, operation, reason, code, summary, scope, passes)
        self.uri = uri
        self.operation = operation
        self.reason = reason
        self.code = code
        self.summary = summary or reason
        self.scope = scope
        self.passes = passes

    def message(self) -> str:
        return f"could not {self.operation} {self.uri}: {self.reason}"


class MissingError(StorageError):
    """The path, object or bucket is not there."""


class AccessError(StorageError):
    """The credentials are wrong, missing or don't allow the operation."""


class ImageError(CondgenError):
    """An image failed when it was tried alone; this becomes one row of ``errors/``.

    Args:
        stage: stage that failed: ``read``, ``decode``, ``model``, ``encode`` and so on.
        error: the short name of the error's class.
        message: canonical text, without addresses, times and local paths, so that every run gives the same bytes.
    """

    def __init__(self, stage: str, error: str, message: str) -> None:
        super().__init__(stage, error, message)
        self.stage = stage
        self.error = error
        self.detail = message

    def message(self) -> str:
        return f"{self.stage}: {self.error}: {self.detail}"


class JobError(CondgenError):
    """A job started and could not end well."""

    exit_code = 1


class Interrupted(CondgenError):  # noqa: N818 - it is no fault of anything
    """A job was stopped from outside; the same command started again goes on."""

    exit_code = 75
