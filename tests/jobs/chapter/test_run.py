"""Claims are judged by their bounds and by the seeds that keep them; the table and the page say so."""

import ast
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

import condgen.worlds
import jobs.chapter
from condgen.errors import ConfigError
from jobs.chapter.claims import Claim, Experiment, ExperimentNumbers, Numbers, at_least, at_most, judge, within
from jobs.chapter.page import write_page
from jobs.chapter.run import find_experiments, run, table


def experiment(*claims: Claim) -> Experiment:
    def nothing(_seed: int, _effort: float) -> ExperimentNumbers:
        return ExperimentNumbers(numbers={})

    return Experiment(name="fake", world="nowhere", run=nothing, claims=claims, seeds=(0, 1, 2))


def verdicts(claim: Claim, *numbers: Numbers, quick: bool = False) -> list[bool | None]:
    return [row.passed for row in judge(experiment(claim), numbers, quick=quick)]


def test_bounds() -> None:
    assert at_least("m", 0.9).holds(0.9)
    assert not at_least("m", 0.9).holds(0.89)
    assert at_most("m", 0.1).holds(0.1)
    assert not at_most("m", 0.1).holds(0.11)
    assert within("m", 0.5, 0.1).holds(0.41)
    assert not within("m", 0.5, 0.1).holds(0.61)
    assert not any(bound.holds(math.nan) for bound in (at_least("m", 0), at_most("m", 0), within("m", 0, 9)))
    assert [str(b) for b in (at_least("m", 0.9), at_most("m", 1), within("m", 0.5, 0.1))] == [
        "≥ 0.9",
        "≤ 1",
        "0.5 ± 0.1",
    ]


def test_all_seeds_must_keep_a_bound_unless_the_claim_says_how_many() -> None:
    good, bad = {"m": 1.0}, {"m": 0.0}
    bounds = (at_least("m", 0.5),)
    assert verdicts(Claim(text="all", bounds=bounds), good, good, bad) == [False]
    assert verdicts(Claim(text="two", bounds=bounds, needed=2), good, good, bad) == [True, True]
    assert verdicts(Claim(text="two", bounds=bounds, needed=2), good, bad, bad) == [False, False]


def test_the_same_seeds_must_keep_all_bounds_of_the_claim() -> None:
    claim = Claim(text="both", bounds=(at_least("m", 0.5), at_most("n", 0.5)), needed=1)
    assert verdicts(claim, {"m": 1.0, "n": 1.0}, {"m": 0.0, "n": 0.0}) == [True, True, False]
    assert verdicts(claim, {"m": 1.0, "n": 1.0}, {"m": 1.0, "n": 0.0}) == [True, True, True]


def test_numbers_over_seeds_are_judged_in_the_full_form_alone() -> None:
    def kinds(seeds: Sequence[Numbers]) -> Numbers:
        return {"kinds": float(len({numbers["m"] for numbers in seeds}))}

    claim = Claim(text="differ", over_seeds=kinds, bounds_over_seeds=(at_least("kinds", 2),))
    assert verdicts(claim, {"m": 1.0}, {"m": 2.0}) == [True]
    assert verdicts(claim, {"m": 1.0}, {"m": 1.0}) == [False]
    assert verdicts(claim, {"m": 1.0}, quick=True) == []


def test_the_quick_form_shows_what_it_is_not_held_to() -> None:
    claim = Claim(text="slow", bounds=(at_least("m", 0.5),), in_quick=False)
    assert verdicts(claim, {"m": 0.0}, quick=True) == [None]
    assert verdicts(claim, {"m": 0.0}) == [False]


def test_the_table_and_the_page_tell_claim_threshold_and_verdict(tmp_path: Path) -> None:
    rows = judge(
        experiment(Claim(text="a <b> claim", bounds=(at_least("m", 0.5), at_most("n", 2)))), [{"m": 0.25, "n": 1.0}]
    )
    lines = table(rows)
    assert lines[2] == "| nowhere | a <b> claim | m | ≥ 0.5 | 0.25 | **NO** |"
    assert lines[3] == "| nowhere |  | n | ≤ 2 | 1 | yes |"
    (tmp_path / "one.png").write_bytes(b"an image")
    write_page(tmp_path / "page.html", rows=rows, images=[("nowhere", "x, y", "one.png")], facts=["2 cores"])
    page = (tmp_path / "page.html").read_text()
    assert "a &lt;b&gt; claim" in page
    assert page.count('class="no"') == 1
    assert "YW4gaW1hZ2U=" in page
    assert "2 cores" in page


def test_experiments_have_names_of_their_own_and_claims() -> None:
    experiments = find_experiments()
    assert len({one.name for one in experiments}) == len(experiments)
    for one in experiments:
        assert one.claims
        assert one.seeds
        assert one.minutes > 0
    assert {one.world for one in find_experiments(["shirts"])} == {"shirts"}
    with pytest.raises(ConfigError, match="shirts"):
        find_experiments(["shirt"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_seeds_and_threads_are_those_asked_for_and_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    def written(*, threads: int) -> int:
        result = run(tmp_path, only=["quantisation"], seeds=(3, 3), threads=threads, processes=1)
        assert [(done.seed, done.threads) for done in result.done] == [(3, threads)]
        assert not result.failed
        return (tmp_path / "quantisation-3.json").stat().st_mtime_ns

    first = written(threads=2)
    assert written(threads=2) == first
    assert written(threads=1) > first


def test_no_world_imports_another_so_that_a_change_of_one_leaves_the_others_results() -> None:
    stems = {experiment.world.replace(" ", "_") for experiment in find_experiments()}
    checked = 0
    for package in (condgen.worlds, jobs.chapter):
        for path in (path for root in package.__path__ for path in Path(root).glob("*.py")):
            own = [stem for stem in stems if path.stem.startswith(stem)]
            if not own:
                continue
            nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
            imported = {(node.module or "").rpartition(".")[2] for node in nodes}
            assert not [name for name in imported if name.startswith(tuple(stems - set(own)))], path.name
            checked += 1
    assert checked >= 2 * len(stems)
    for experiment in find_experiments():
        function = getattr(experiment.run, "func", experiment.run)
        assert function.__module__.rpartition(".")[2].startswith(experiment.world.replace(" ", "_"))
