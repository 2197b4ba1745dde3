"""Operations on rows of samples: torchvision's transforms, filters that count, mixtures.

    ds = read_paired("facades", split="train")
    ds = keep(ds, lambda row: row["input"].shape[0] >= 256 or "too small", tally)
    ds = transform(ds, v2.Compose([v2.RandomCrop(256), v2.RandomHorizontalFlip()]), seed=0, epoch=3)

Each function returns an ordinary `ray.data.Dataset`, and is a pure function of the rows: what a sample becomes depends
on its source and key, the seed and the epoch, not on workers, blocks or order.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from condgen.errors import ConfigError, DatasetError
from pipelines.ray_data.counters import Tally, work_name
from pipelines.ray_data.reading import known_samples, note_samples
from pipelines.ray_data.tensors import column_images, image_array, image_columns, with_column

if TYPE_CHECKING:
    import ray.data
    import torch

__all__ = ["REPEAT", "keep", "mix", "transform"]

REPEAT = "repeat"
"""A column of mixtures: 0 for a sample's first copy, 1 for its second, and so on."""

Predicate = Callable[[dict[str, Any]], bool | str]
Transform = Callable[..., Any]

_torch_generator = threading.Lock()


def transform(
    dataset: ray.data.Dataset,
    joint: Transform | None = None,
    *,
    only: Mapping[str, Transform] | None = None,
    seed: int = 0,
    epoch: int = 0,
    num_cpus: float = 1.0,
) -> ray.data.Dataset:
    """Apply torchvision's v2 transforms to the images of each row, the same to both images of a pair.

    All images of a row go to `joint` in one call as `tv_tensors.Image` uint8 `[3, H, W]`, so that a crop, a flip or a
    jitter has the same parameters for all; `only` then changes one column alone. What torch draws meanwhile is seeded
    by (seed, epoch, source, key, copy): the same row gives the same images in any process.

    Args:
        dataset: dataset of `pipelines.ray_data.reading`, with decoded images.
        joint: transform of all images of a row, of `torchvision.transforms.v2` or any function of such tensors
            (default: none).
        only: transforms of single columns, applied after `joint`: `{"input": v2.ColorJitter(0.4)}`.
        seed, epoch: numbers that fix the draws; each epoch has its own.
        num_cpus: CPUs that a task is counted as (default: 1).

    Returns:
        Rows with `[H', W', C]` arrays of the dtype that the transform ends in, in the place of the images.

    Raises:
        DatasetError: there is no such column of images, or the images of a pair differ in size, so that a transform
            can't treat them alike (raised when the dataset runs).
    """
    applied = dataset.map_batches(
        cast("Any", _Apply(joint, dict(only or {}), seed, epoch)),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=num_cpus,
    )
    return note_samples(applied, known_samples(dataset))


@dataclass(frozen=True)
class _Apply:
    joint: Transform | None
    only: dict[str, Transform]
    seed: int
    epoch: int

    def __call__(self, block: pa.Table) -> pa.Table:
        if block.num_rows == 0:
            return block
        columns = image_columns(block)
        unknown = sorted(set(self.only) - set(columns))
        if unknown or not columns:
            have = ", ".join(columns) or "none (are they encoded?)"
            raise DatasetError(f"no column {', '.join(unknown) or 'of images'} to transform; decoded images: {have}")
        found = zip(*(column_images(block, column) for column in columns), strict=True)
        rows = [
            self._row(dict(zip(columns, images, strict=True)), who)
            for images, who in zip(found, _ids(block), strict=True)
        ]
        for column in columns:
            block = with_column(block, column, image_array([row[column] for row in rows]))
        return block

    def _row(self, images: dict[str, npt.NDArray[Any]], who: tuple[str, str, int]) -> dict[str, npt.NDArray[Any]]:
        if any(0 in image.shape for image in images.values()):
            return images  # of a sample that could not be decoded
        tensors = {name: _to_image(image) for name, image in images.items()}
        with _seeded(self.seed, self.epoch, who):
            if self.joint is not None:
                try:
                    done = self.joint(*tensors.values())
                except ValueError as error:
                    sizes = ", ".join(f"{name} {image.shape[1]}x{image.shape[0]}" for name, image in images.items())
                    reason = f"the transform can't be applied to {who[0]} {who[1]} ({sizes}): {error}"
                    raise DatasetError(f"{reason}; bring images of a pair to one size first") from error
                done = done if isinstance(done, tuple | list) else (done,)
                tensors = dict(zip(tensors, done, strict=True))
            for name, alone in self.only.items():
                tensors[name] = alone(tensors[name])
        return {name: _to_array(tensor) for name, tensor in tensors.items()}


def _to_image(image: npt.NDArray[Any]) -> Any:
    import torch
    from torchvision import tv_tensors

    return tv_tensors.Image(torch.from_numpy(image.copy()).permute(2, 0, 1))


def _to_array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.permute(1, 2, 0).contiguous().numpy()
    return array


@contextmanager
def _seeded(seed: int, epoch: int, who: tuple[str, str, int]) -> Iterator[None]:
    """Seed torch's generator of the CPU for one sample, and restore its state afterwards."""
    import torch

    text = json.dumps([seed, epoch, *who], ensure_ascii=True, separators=(",", ":"))
    word = int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "little") >> 1
    generator = torch.default_generator
    with _torch_generator:
        before = generator.get_state()
        generator.manual_seed(word)
        try:
            yield
        finally:
            generator.set_state(before)


def _ids(block: pa.Table) -> list[tuple[str, str, int]]:
    """Return what the draws of each row depend on: its source, its key and the number of its copy."""
    copies = block[REPEAT].to_pylist() if REPEAT in block.column_names else [0] * block.num_rows
    sources, keys = block["source"].to_pylist(), block["key"].to_pylist()
    if "target_key" in block.column_names:
        targets = zip(block["target_source"].to_pylist(), block["target_key"].to_pylist(), strict=True)
        keys = [json.dumps([key, *target]) for key, target in zip(keys, targets, strict=True)]
    return list(zip(sources, keys, copies, strict=True))


def keep(
    dataset: ray.data.Dataset, predicate: Predicate, tally: Tally | None = None, *, num_cpus: float = 1.0
) -> ray.data.Dataset:
    """Keep the rows that a predicate says yes to, and count the others by its reasons.

    Args:
        dataset: any dataset with `source` and `key`.
        predicate: function of a row, as `Dataset.filter` has it, that returns True to keep it, or False, or a reason.
        tally: tally of the rows, as `kept` and by reason (`dropped` for a plain False), each once however often Ray
            runs a task.
        num_cpus: CPUs that a task is counted as (default: 1).
    """
    return dataset.map_batches(
        cast("Any", _Keep(predicate, tally)), batch_size=None, batch_format="pyarrow", num_cpus=num_cpus
    )


@dataclass(frozen=True)
class _Keep:
    predicate: Predicate
    tally: Tally | None

    def __call__(self, block: pa.Table) -> pa.Table:
        from ray.data.block import BlockAccessor

        rows: Any = BlockAccessor.for_block(block).iter_rows(public_row_format=True)
        verdicts = [self.predicate(row) for row in rows]
        kept = [verdict is True or (not isinstance(verdict, str) and bool(verdict)) for verdict in verdicts]
        if self.tally is not None and block.num_rows:
            counts = {"kept": sum(kept)}
            for verdict, stays in zip(verdicts, kept, strict=True):
                if not stays:
                    reason = verdict if isinstance(verdict, str) and verdict else "dropped"
                    counts[reason] = counts.get(reason, 0) + 1
            self.tally.report(work_name(f"keep {_name_of(self.predicate)}", _ids(block)), counts)
        return block.filter(pa.array(kept, pa.bool_()))


def _name_of(predicate: Predicate) -> str:
    """Return a name that tells two predicates of one pipeline apart, in every process."""
    code = getattr(predicate, "__code__", None)
    where = f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(type(predicate))
    return f"{where} {getattr(predicate, '__qualname__', '')}"


def mix(
    parts: Sequence[tuple[ray.data.Dataset, float]],
    *,
    seed: int,
    epoch: int = 0,
    repeat: bool = False,
    sizes: Sequence[int] | None = None,
) -> ray.data.Dataset:
    """Mix datasets so that each has its share of the rows.

    Which samples are in the mixture is decided for each alone, by a hash of (seed, epoch, part, source, key). Without
    `repeat` none comes twice: the part that is scarcest for its weight is given whole, of the others a random part,
    anew each epoch. With it every sample comes at least once: the part that is most plentiful for its weight is given
    once, the others again and again (a column `repeat` numbers the copies). A share is exact in the mean; a part of n
    rows, each taken with probability p, has a standard deviation of sqrt(n p (1 - p)). Rows come block by block from
    the part that is furthest behind its share, in an order that is the same each time; shuffle batches as needed.

    Args:
        parts: datasets of equal columns, and their weights (> 0).
        seed, epoch: numbers that fix the mixture; each epoch has its own.
        repeat: whether scarce parts come several times (default: none comes twice).
        sizes: number of rows of each part (default: from its plan, or counted by running it once more).

    Raises:
        ConfigError: there are no parts, or weights that are not positive.
    """
    if not parts or any(not math.isfinite(weight) or weight <= 0 for _, weight in parts):
        raise ConfigError(
            "mix.parts", [weight for _, weight in parts], "one or more datasets with weights greater than 0"
        )
    total = sum(weight for _, weight in parts)
    shares = [weight / total for _, weight in parts]
    rows = list(sizes or [known_samples(dataset) or dataset.count() for dataset, _ in parts])
    if len(rows) != len(parts) or min(rows) < 1:
        raise ConfigError("mix.sizes", rows, "the rows of each part, 1 or more")
    lengths = [count / share for count, share in zip(rows, shares, strict=True)]
    length = max(lengths) if repeat else min(lengths)
    chosen = [
        dataset.map_batches(
            cast("Any", _Choose(round(length * share / count, 12), seed, epoch, place)),
            batch_size=None,
            batch_format="pyarrow",
        )
        for place, ((dataset, _), share, count) in enumerate(zip(parts, shares, rows, strict=True))
    ]
    mixed = _interleaved(chosen, shares)
    mixed.context.execution_options.preserve_order = True
    return mixed


def _interleaved(datasets: list[ray.data.Dataset], shares: list[float]) -> ray.data.Dataset:
    first: Any = datasets[0]
    if len(datasets) == 1:
        return cast("ray.data.Dataset", first)
    if not hasattr(first, "mix"):  # before Ray 2.5x: by turns, whatever the shares
        return cast("ray.data.Dataset", first.union(*datasets[1:]))
    return cast("ray.data.Dataset", first.mix(*datasets[1:], weights=shares))


@dataclass(frozen=True)
class _Choose:
    """Each sample `rate` times: floor(rate) copies, and one more with the probability of the rest."""

    rate: float
    seed: int
    epoch: int
    part: int

    def __call__(self, block: pa.Table) -> pa.Table:
        base, rest = divmod(self.rate, 1.0)
        copies = [int(base) + (self._uniform(who) < rest) for who in _ids(block)]
        pieces = [block.filter(pa.array([copy < count for count in copies])) for copy in range(max(copies, default=0))]
        out = [with_column(piece, REPEAT, pa.array(np.full(piece.num_rows, copy))) for copy, piece in enumerate(pieces)]
        if not out:
            return with_column(block.slice(0, 0), REPEAT, pa.array([], pa.int64()))
        return pa.concat_tables(out)

    def _uniform(self, who: tuple[str, str, int]) -> float:
        text = json.dumps([self.seed, self.epoch, self.part, *who], ensure_ascii=True, separators=(",", ":"))
        word = int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "little")
        return (word >> 11) * 2.0**-53
