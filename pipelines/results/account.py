"""The account of a batch job: every image of its plans has K draws, or an error, or was filtered.

It is made from the plans and from the footers of the committed draws files, and needs nothing else: it can be made
again at any time, by anyone. A failure that a later plan tried again counts there alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from condgen.errors import DatasetError
from pipelines.results.commits import DrawsListing, look_up
from pipelines.results.failures import FailureList
from pipelines.results.files import Failure, draws_name, iter_footers
from pipelines.results.plan import Generation
from pipelines.storage.store import Store

__all__ = ["Account", "NamedFiles", "committed", "make_account", "retried_places"]

_SHOWN = 50


@dataclass(slots=True)
class NamedFiles:
    """How many files there are of a kind, and the names of the first."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def add(self, name: str) -> None:
        """Count a file."""
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(name)


@dataclass(slots=True, kw_only=True)
class Account:
    """What became of the images of all plans.

    Attributes:
        images: number of images in the plans, each counted once.
        draws, errors, filtered: numbers that are committed: K draws an image, errors not tried again, and images
            that the user's function left out.
        num_draws: K, draws of each image.
        kinds: number of errors by stage and name.
        failures: the errors, by the name of the plan.
        missing: draws files that are not there.
        foreign: draws files that are of another job.
    """

    num_draws: int
    images: int = 0
    draws: int = 0
    errors: int = 0
    filtered: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    failures: dict[str, FailureList] = field(default_factory=dict)
    missing: NamedFiles = field(default_factory=NamedFiles)
    foreign: NamedFiles = field(default_factory=NamedFiles)

    @property
    def with_draws(self) -> int:
        """The number of images that have all their draws."""
        return self.draws // self.num_draws

    @property
    def is_closed(self) -> bool:
        """Whether every image is accounted for."""
        whole = self.draws % self.num_draws == 0
        adds_up = self.with_draws + self.errors + self.filtered == self.images
        return whole and adds_up and not self.missing and not self.foreign

    def add(self, plan: str, facts: Mapping[str, Any], retried: frozenset[int] = frozenset()) -> None:
        """Count a committed chunk; those of a plan are counted in their order.

        Args:
            plan: name of its plan.
            facts: contents of its draws file's footer.
            retried: places in it that a later plan does again.

        Raises:
            DatasetError: the footer was written by another version.
        """
        kept = [failure for failure in _failures(facts) if failure.place not in retried]
        self.draws += facts["counts"]["draws"]
        self.filtered += facts["counts"]["filtered"]
        self.errors += len(kept)
        self.kinds.update(f"{one.stage} {one.error}" for one in kept)
        if kept:
            self.failures.setdefault(plan, FailureList()).add(facts["chunk"], kept)

    def failures_of(self, plan: str) -> FailureList:
        """Return the errors of one plan, in its order."""
        return self.failures.get(plan, FailureList())


def committed(results: Store) -> dict[str, int]:
    """Return all draws files that are there, in memory: size in bytes by name (`look_up` holds less)."""
    return {entry.name: entry.size_bytes for entry in results.iter_list("draws")}


def make_account(results: Store, generations: Sequence[Generation], job: str, num_draws: int) -> Account:
    """Make the account from what is committed, whose footers are added up as they come.

    Args:
        results: store of the job's results.
        generations: plans of the job.
        job: digest that the footers of its files must state.
        num_draws: K, draws of each image.

    Raises:
        DatasetError: a draws file is damaged.
    """
    account = Account(num_draws=num_draws)
    account.images = sum(one.plan.num_samples for one in generations if one.plan.kind == "archive")
    retried = retried_places(generations)
    for part in look_up(DrawsListing(results), generations):
        names = [draws_name(name) for name in part.chunks["name"].to_pylist()]
        there: dict[str, int] = {}
        for name, size in zip(names, part.sizes.tolist(), strict=True):
            if size < 0:
                account.missing.add(name)
            else:
                there[name] = size
        for name, facts in zip(there, iter_footers(results, there), strict=True):
            if facts.get("job") != job:
                account.foreign.add(name)
                continue
            account.add(part.generation.plan.name, facts, retried.get(facts["chunk"], frozenset()))
    return account


def _failures(facts: Mapping[str, Any]) -> list[Failure]:
    try:
        return [Failure(**row) for row in facts["errors"]]
    except (TypeError, KeyError) as error:
        message = f"{draws_name(facts['chunk'])} was written by another version of condgen: name another RESULTS folder"
        raise DatasetError(message) from error


def retried_places(generations: Sequence[Generation]) -> dict[str, frozenset[int]]:
    """Return the places in each chunk that a later plan does again."""
    found: dict[str, frozenset[int]] = {}
    for generation in generations:
        if generation.plan.kind == "retry":
            for piece in generation.stored.pieces(["redoes", "select"]):
                for name, places in zip(piece["redoes"].to_pylist(), piece["select"].to_pylist(), strict=True):
                    found[name] = frozenset(places)
    return found
