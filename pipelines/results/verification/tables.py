"""Checks of results against their plans, from the plans and the draws files alone.

`pipelines.results.verification.draws` looks at draws files, `check_plans`, `check_tables`, `check_run` and
`check_strays` at what is around them. `Findings` adds it all up: the account, how many faults of each kind there are,
and the first of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import DatasetError, MissingError
from pipelines.results.account import Account, NamedFiles
from pipelines.results.files import draws_name
from pipelines.results.plan import Generation
from pipelines.results.verification.draws import ChunkFindings, ResultFault
from pipelines.storage.parquet import HELD_BYTES, StoredParquet, open_parquet
from pipelines.storage.store import Store

__all__ = ["Findings", "check_plans", "check_run", "check_strays", "check_tables"]

_EXAMPLES = 50
_ROWS_AT_ONCE = 1 << 16


@dataclass(slots=True)
class Findings:
    """All that was found in results: the account, and their faults.

    Attributes:
        account: account of the images, see `pipelines.results.account`.
        counts: numbers of faults by name.
        examples: the first faults.
        rows, size_bytes: numbers of rows and bytes that were read.
        repeated: number of images whose source and key another image has too, as the archive has them.
    """

    account: Account
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[ResultFault] = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0
    repeated: int = 0

    def add(self, faults: Iterable[ResultFault]) -> None:
        """Add faults."""
        for fault in faults:
            self.counts[fault.error] += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(fault)

    def add_missing(self, missing: NamedFiles) -> None:
        """Add the draws files that are not there."""
        if missing:
            self.counts["Missing"] += len(missing)
        said, room = "the chunk was not committed: run the job", _EXAMPLES - len(self.examples)
        self.examples += [ResultFault(name, "Missing", said) for name in missing.first[:room]]

    def add_chunk(self, plan: str, found: ChunkFindings, retried: frozenset[int]) -> None:
        """Add a chunk of a plan; `retried` are the places in it that a later plan does again."""
        self.add(found.faults)
        self.rows += found.rows
        self.size_bytes += found.size_bytes
        self.repeated += found.repeated
        if found.facts is None:
            return
        failed = {one["place"] for one in found.facts["errors"]}
        if not retried <= failed:
            message = "a later plan does images of it again that had not failed"
            self.add([ResultFault(draws_name(found.chunk), "Duplicate", message)])
        try:
            self.account.add(plan, found.facts, retried)
        except DatasetError as error:
            self.add([ResultFault(draws_name(found.chunk), "Damaged", str(error))])


def check_plans(generations: Sequence[Generation]) -> list[ResultFault]:
    """Check that plans count what they list, and that no image is in two of them."""
    faults = []
    for generation in generations:
        plan, counted = generation.plan, np.zeros(2, np.int64)
        for piece in generation.stored.pieces(["samples"]):
            counted += piece.num_rows, int(pc.sum(piece["samples"]).as_py() or 0)
        if counted.tolist() != [plan.num_chunks, plan.num_samples]:
            faults.append(ResultFault(f"plan/{plan.name}.json", "Count", "it counts other chunks than it lists"))
        begun = generations[0].plan
        if (plan.model["digest"], plan.settings) != (begun.model["digest"], begun.settings):
            faults.append(ResultFault(f"plan/{plan.name}.json", "OtherJob", "another model or settings than plan 000"))
    if _has_repeated_names(generations):
        faults.append(ResultFault("plan", "Duplicate", "two chunks have one name"))
    if _has_repeated_starts(generations) or _has_repeated_files(generations) or _has_repeated_parts(generations):
        faults.append(ResultFault("plan", "Duplicate", "an image is in two chunks"))
    return faults


def _has_repeated_names(generations: Sequence[Generation]) -> bool:
    """Return whether two chunks have one name: of such two, the second is not beyond all names before it."""
    highest, late = "", Counter[str]()
    for name in _names(generations):
        if name > highest:
            highest = name
        else:
            late[name] = 0
    for name in _names(generations) if late else ():
        if name in late:
            late[name] += 1
    return any(count > 1 for count in late.values())


def _names(generations: Sequence[Generation]) -> Iterator[str]:
    for piece in (piece for one in generations for piece in one.stored.pieces(["name"])):
        yield from piece["name"].to_pylist()


def _has_repeated_starts(generations: Sequence[Generation]) -> bool:
    """Return whether an extent of a shard, or a part of a table, is in two chunks."""
    by_shard: dict[str, list[npt.NDArray[np.int64]]] = {}
    for shard, starts in (found for one in generations for found in one.stored.starts(of_whole_chunks=True)):
        by_shard.setdefault(shard, []).append(starts)
    return any(len(np.unique(starts)) < len(starts) for starts in map(np.concatenate, by_shard.values()))


def _has_repeated_files(generations: Sequence[Generation]) -> bool:
    """Return whether a file is in two chunks."""
    parts = [pa.array([], pa.string())]
    for piece in (piece for one in generations for piece in one.stored.pieces(["shard", "files", "redoes", "select"])):
        wanted = pc.and_(pc.is_null(piece["redoes"]), pc.is_null(piece["select"]))
        loose = piece.filter(pc.and_(wanted, pc.is_null(piece["shard"]))).combine_chunks()
        parts += [files.flatten().field("name") for files in loose["files"].chunks]
    names = pa.chunked_array(parts)
    return bool(pc.count_distinct(names).as_py() < len(names))


def _has_repeated_parts(generations: Sequence[Generation]) -> bool:
    """Return whether an image is in two chunks of which only a part was wanted."""
    seen: set[tuple[str, int]] = set()
    for chunk in (chunk for one in generations for chunk in one.stored.cut()):
        start = chunk.runs[0].start if chunk.runs else chunk.rows.start if chunk.rows else 0
        for place in chunk.places:
            unit = (chunk.files[place].name, 0) if chunk.shard is None else (f"{chunk.shard}:{start}", place)
            if unit in seen:
                return True
            seen.add(unit)
    return False


def check_strays(results: Store, generations: Sequence[Generation], strays: Iterable[str]) -> Iterator[ResultFault]:
    """Yield the files in draws/ and errors/ that no plan names: readers of the folder would count them too.

    Args:
        results: store of the results.
        generations: plans.
        strays: names of those in draws/.
    """
    tables = {f"errors/{one.plan.name}.parquet" for one in generations}
    others = (entry.name for entry in results.list("errors") if entry.name not in tables)
    for name in chain(strays, others):
        yield ResultFault(name, "Stray", "no plan names it: delete it")


def check_tables(results: Store, generations: Sequence[Generation], account: Account) -> list[ResultFault]:
    """Check that the tables of errors are what the draws files' footers say, without what was tried again."""
    faults = []
    for generation in generations:
        name, failures = f"errors/{generation.plan.name}.parquet", account.failures_of(generation.plan.name)
        try:
            with open_parquet(results, name, whole_up_to_bytes=HELD_BYTES) as file:
                pairs = zip_longest(_rows(file), (failure.row() for failure in failures))
                if any(row != want for row, want in pairs):
                    wrong = f"{file.metadata.num_rows} rows are not the {len(failures)} errors of the draws files"
                    faults.append(ResultFault(name, "Errors", f"{wrong}: run the job again"))
        except MissingError:
            faults.append(ResultFault(name, "Missing", "it is written when the job is complete: run it again"))
        except (DatasetError, pa.ArrowException, OSError):
            faults.append(ResultFault(name, "Damaged", "it can't be read: delete it and run the job again"))
    return faults


def _rows(file: StoredParquet) -> Iterator[dict[str, Any]]:
    for batch in (batch for piece in file.pieces() for batch in piece.to_batches(max_chunksize=_ROWS_AT_ONCE)):
        yield from batch.to_pylist()


def check_run(results: Store, generations: Sequence[Generation], account: Account) -> list[ResultFault]:
    """Check that run.json is there and says what the plans and the account say."""
    name = "run.json"
    try:
        facts = json.loads(results.read(name))
        counts = facts["counts"]
        stated = [(plan["name"], plan["digest"]) for plan in facts["plans"]]
        told = facts["model"]["digest"], facts["settings"]
    except MissingError:
        return [ResultFault(name, "Missing", "the job is not complete: run it again")]
    except (ValueError, KeyError, TypeError):
        return [ResultFault(name, "Damaged", "it can't be read: delete it and run the job again")]
    faults = []
    plan = generations[0].plan
    if stated != [(one.plan.name, one.plan.digest) for one in generations]:
        faults.append(ResultFault(name, "Plans", "other plans than are there: run the job again"))
    if told != (plan.model["digest"], plan.settings):
        faults.append(ResultFault(name, "OtherJob", "another model or settings than the plan's"))
    for what in ("images", "with_draws", "draws", "errors", "filtered"):
        found = getattr(account, what)
        if counts.get(what) != found:
            faults.append(ResultFault(name, "Count", f"{what} {counts.get(what)}, found {found}"))
    return faults
