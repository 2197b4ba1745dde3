"""Any image of a plan of many row groups is found by its place, and what does a chunk again by its name."""

import pytest

from pipelines.datasets.chunk import Chunk, ExtentPart, chunks_to_table
from pipelines.evaluation import values
from pipelines.evaluation.parts import ROWS_SCHEMA
from pipelines.gallery.chunk_lists import ChunkList
from pipelines.gallery.columns import METRICS
from pipelines.gallery.side_by_side import side_by_side
from pipelines.results.plan import Plan, write_plan
from pipelines.storage.store import Store, open_store

CHUNKS = 9000
SIZES = [number % 3 + 1 for number in range(CHUNKS)]


def chunk(ordinal: int, samples: int, first: int, **values: object) -> Chunk:
    name = f"{ordinal:08d}-{'0' * 12}"
    runs = (ExtentPart(10 * ordinal, 10 * ordinal + 9, samples, ""),)
    return Chunk(ordinal=ordinal, name=name, shard="a.tar", samples=samples, first_sample=first, runs=runs, **values)


def written(store: Store, chunks: list[Chunk], **values: object) -> Plan:
    return write_plan(store, chunks_to_table(chunks), archive="a", model={"digest": "d"}, settings={}, **values).plan


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(str(tmp_path_factory.mktemp("plans")))


def every_place(sizes: list[int]) -> list[tuple[int, int]]:
    return [(row, rank) for row, samples in enumerate(sizes) for rank in range(samples)]


def test_places_lead_to_chunks_in_plans_of_many_row_groups(store: Store) -> None:
    firsts = [sum(SIZES[:place]) for place in range(0, CHUNKS, 3)]
    chunks = [chunk(n, SIZES[n], firsts[n // 3] + sum(SIZES[n - n % 3 : n])) for n in range(CHUNKS)]
    listed = ChunkList(store, written(store, chunks), 0, base=0)
    assert (listed.num_groups, listed._stated_starts is not None) == (3, True)
    expected = every_place(SIZES)
    for place in (0, 1, 8190, 8191, 8192, 8193, 12345, len(expected) - 1):
        found, rank = listed.at(place)
        assert (found.row, rank) == expected[place]
    beginning = listed.beginning_at(8189)
    assert [(one.row, rank) for one, rank in (next(beginning) for _ in range(3))] == [(4094, 2), (4095, 0), (4096, 0)]
    assert listed.whole(listed.at(8193)[0]).runs[0].start == 10 * expected[8193][0]


def test_a_later_plan_that_begins_with_a_rest_counts_its_samples(store: Store) -> None:
    rest = chunk(7, 2, 5000, select=(3, 4))
    sizes = [2, *SIZES]
    chunks = [rest, *(chunk(n + 8, samples, 77) for n, samples in enumerate(SIZES))]
    plan = written(store, chunks, generation=1)
    listed = ChunkList(store, plan, 0, base=1000)
    expected = every_place(sizes)
    for place in (0, 1, 2, 8192, 9001, len(expected) - 1):
        found, rank = listed.at(1000 + place)
        assert (found.row, rank) == expected[place]
        assert found.base + rank == 1000 + place
    assert listed.at(1001)[0].places == (3, 4)


def test_what_does_a_chunk_again_is_found_by_its_name(store: Store) -> None:
    chunks = [chunk(n, 1, 0, select=(0,), redoes=f"{2 * n:08d}-{'0' * 12}") for n in range(CHUNKS)]
    listed = ChunkList(store, written(store, chunks, generation=2, kind="retry"), 0, base=-1)
    for number in (0, 4095, 4096, CHUNKS - 1):
        found = listed.redoing(f"{2 * number:08d}-{'0' * 12}")
        assert found is not None
        assert found.row == number
    assert listed.redoing(f"{3:08d}-{'0' * 12}") is None
    assert listed.redoing("g001-00000000-000000000000") is None


def test_metrics_are_called_as_an_evaluation_calls_them() -> None:
    assert {field.name for field in ROWS_SCHEMA if str(field.type) == "double"} == set(METRICS)
    for metric in values.METRICS.values():
        if metric.how == "mean":
            better = metric.better if metric.better in ("higher", "lower") else None
            assert METRICS[metric.column] == (metric.title, better, metric.scale)


def test_calls_side_by_side_give_their_results_in_order_and_their_errors() -> None:
    assert list(side_by_side(lambda number: number * number, range(100), 4)) == [n * n for n in range(100)]
    taken: list[int] = []

    def items() -> object:
        for number in range(1000):
            taken.append(number)
            yield number

    first = side_by_side(lambda number: number, items(), 2)
    assert next(first) == 0
    first.close()
    assert len(taken) < 10  # few are taken ahead
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda number: 1 // number, [1, 0, 1], 2))
