"""Checks of results against their plans, from the plans and the draws files alone.

`pipelines.results.verification.draws` looks at draws files, `check_plans`, `check_tables`, `check_run` and
`check_strays` at what is around them. `Findings` adds it all up: the account, how many faults of each kind there are,
and the first of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import DatasetError, MissingError
from pipelines.datasets.chunk import Chunk, iter_chunks
from pipelines.results.account import Account
from pipelines.results.files import draws_name
from pipelines.results.plan import Generation
from pipelines.results.verification.draws import ChunkFindings, ResultFault
from pipelines.storage.parquet import read_parquet
from pipelines.storage.store import Store

__all__ = ["Findings", "check_plans", "check_run", "check_strays", "check_tables"]

_EXAMPLES = 50


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
        plan, chunks = generation.plan, generation.chunks
        counted = chunks.num_rows, int(pc.sum(chunks["samples"]).as_py() or 0)
        if counted != (plan.num_chunks, plan.num_samples):
            faults.append(ResultFault(f"plan/{plan.name}.json", "Count", "it counts other chunks than it lists"))
        begun = generations[0].plan
        if (plan.model["digest"], plan.settings) != (begun.model["digest"], begun.settings):
            faults.append(ResultFault(f"plan/{plan.name}.json", "OtherJob", "another model or settings than plan 000"))
    tables = [generation.chunks for generation in generations]
    names = pa.chunked_array([chunk for table in tables for chunk in table["name"].chunks], pa.string())
    if pc.count_distinct(names).as_py() != len(names):
        faults.append(ResultFault("plan", "Duplicate", "two chunks have one name"))
    new = [table.filter(pc.is_null(table["redoes"])) for table in tables]
    whole = pa.concat_tables([table.filter(pc.is_null(table["select"])) for table in new])
    parts = [chunk for table in new for chunk in iter_chunks(table.filter(pc.is_valid(table["select"])))]
    if _has_repeated_units(whole) or _has_repeated_parts(parts):
        faults.append(ResultFault("plan", "Duplicate", "an image is in two chunks"))
    return faults


def _has_repeated_units(whole: pa.Table) -> bool:
    """Return whether a file, a run of a shard or a first row is in two chunks."""
    table = whole.combine_chunks()
    files = table["files"].combine_chunks().flatten()
    runs = table["runs"].combine_chunks()
    rows = table.filter(pc.is_valid(table["rows"]))
    units = [
        pa.table({"shard": pa.nulls(len(files), pa.string()), "unit": files.field("name")}),
        _units(table["shard"].combine_chunks().take(pc.list_parent_indices(runs)), runs.flatten().field("start")),
        _units(rows["shard"], pc.struct_field(rows["rows"], "start")),
    ]
    for table in units:
        if table.num_rows and table.group_by(["shard", "unit"]).aggregate([]).num_rows != table.num_rows:
            return True
    return False


def _units(shard: Any, start: Any) -> pa.Table:
    return pa.table({"shard": shard, "unit": start})


def _has_repeated_parts(parts: Sequence[Chunk]) -> bool:
    seen: set[tuple[str, int]] = set()
    for chunk in parts:
        start = chunk.runs[0].start if chunk.runs else chunk.rows.start if chunk.rows else 0
        for place in chunk.places:
            unit = (chunk.files[place].name, 0) if chunk.shard is None else (f"{chunk.shard}:{start}", place)
            if unit in seen:
                return True
            seen.add(unit)
    return False


def check_strays(results: Store, generations: Sequence[Generation], there: Iterable[str]) -> list[ResultFault]:
    """Find files in draws/ and errors/ that no plan names: readers of the folder would count them too."""
    planned = {draws_name(name) for one in generations for name in one.chunks["name"].to_pylist()}
    tables = {f"errors/{one.plan.name}.parquet" for one in generations}
    strays = [name for name in there if name not in planned]
    strays += [entry.name for entry in results.list("errors") if entry.name not in tables]
    return [ResultFault(name, "Stray", "no plan names it: delete it") for name in strays]


def check_tables(results: Store, generations: Sequence[Generation], account: Account) -> list[ResultFault]:
    """Check that the tables of errors are what the draws files' footers say, without what was tried again."""
    faults = []
    for generation in generations:
        name = f"errors/{generation.plan.name}.parquet"
        want = [failure.row() for failure in account.of_plan(generation.plan.name)]
        try:
            rows = read_parquet(results.read(name)).to_pylist()
        except MissingError:
            faults.append(ResultFault(name, "Missing", "it is written when the job is complete: run it again"))
            continue
        except (pa.ArrowException, OSError):
            faults.append(ResultFault(name, "Damaged", "it can't be read: delete it and run the job again"))
            continue
        if rows != want:
            message = f"{len(rows)} rows are not the {len(want)} errors of the draws files: run the job again"
            faults.append(ResultFault(name, "Errors", message))
    return faults


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
