"""`condgen verify`: results that are whole pass, and whatever is missing or changed is named."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_results import job_in, run_job, write_picture

from condgen.errors import DatasetError, MissingError
from jobs.results.verify import run
from pipelines.results.files import FOOTER_KEY
from pipelines.results.settings import BatchSettings
from pipelines.results.verification.job import Verification

FLIPS = int(os.environ.get("SOAK_FILES", "100"))
SETTINGS = BatchSettings(draws=2, seed=5, batch_size=4, chunk_samples=3, precision="fp32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of seven pictures and a text, done; then two more, of which one failed and was done again."""
    root = tmp_path_factory.mktemp("verify")
    for number in range(7):
        write_picture(root / f"archive/album/{number}.png", number)
    (root / "archive/notes.dat").write_text("not an image")
    job = job_in(root, SETTINGS)
    run_job(job)
    write_picture(root / "archive/new/0.png", 10)
    write_picture(root / "archive/new/1.png", 11)
    whole = (root / "archive/new/1.png").read_bytes()
    (root / "archive/new/1.png").write_bytes(whole[:60])
    run_job(job)
    (root / "archive/new/1.png").write_bytes(whole)
    report = run_job(replace(job, retry_errors=True))
    assert (report.images, report.with_draws, report.errors, report.generations) == (10, 9, 1, 3)
    return root


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(made / "results", tmp_path / "results")
    return tmp_path / "results"


def draws_files(results: Path) -> list[Path]:
    return sorted((results / "draws").iterdir())


def errors_of(found: Verification) -> set[str]:
    assert (found.exit_code == 1) == bool(found.findings.counts)
    return set(found.findings.counts)


@pytest.mark.parametrize("quick", [False, True])
def test_whole_results_of_three_plans_pass(made: Path, quick: bool) -> None:
    found = run(str(made / "results"), quick=quick)
    assert found.exit_code == 0, found.lines()
    assert found.plans == 3
    assert found.findings.rows == (0 if quick else 18)
    assert "10: 9 with 2 draws each, 1 errors, 0 filtered" in "\n".join(found.lines())


def test_the_archive_is_compared_with_what_the_rows_say_of_it(made: Path, tmp_path: Path) -> None:
    assert run(str(made / "results"), archive=str(made / "archive")).exit_code == 0
    shutil.copytree(made / "archive", tmp_path / "moved")
    write_picture(tmp_path / "moved/album/3.png", 99)
    (tmp_path / "moved/album/4.png").unlink()
    found = run(str(made / "results"), archive=str(tmp_path / "moved"))
    assert found.findings.counts == {"Source": 2}
    assert {("album/3" in one.message) or ("album/4" in one.message) for one in found.findings.examples} == {True}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip_picture(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 200] ^= 1
    path.write_bytes(data)


def rewrite(change: Callable[[dict[str, list]], None], facts_change: Callable[[dict], None]) -> Callable[[Path], None]:
    """Write a draws file again with other rows, or with another footer."""

    def damage(path: Path) -> None:
        table = pq.read_table(path)
        columns = table.to_pydict()
        change(columns)
        metadata = dict(table.schema.metadata)
        facts = json.loads(metadata[FOOTER_KEY])
        facts_change(facts)
        metadata[FOOTER_KEY] = json.dumps(facts).encode()
        pq.write_table(type(table).from_pydict(columns, schema=table.schema.with_metadata(metadata)), path)

    return damage


def keep(_: dict) -> None:
    return


def drop_row(columns: dict[str, list]) -> None:
    for values in columns.values():
        values.pop()


def repeat_image(columns: dict[str, list]) -> None:
    """The first image's rows in the second one's place."""
    for values in columns.values():
        values[2:4] = values[:2]


def swap_draws(columns: dict[str, list]) -> None:
    columns["draw"][:2] = [1, 0]


def other_seed(columns: dict[str, list]) -> None:
    columns["seed"][0] = 6


def lie_about_counts(facts: dict) -> None:
    facts["counts"]["samples"] += 1


def other_job(facts: dict) -> None:
    facts["job"] = "0" * 64


def other_settings(facts: dict) -> None:
    facts["settings"]["quality"] = 1


def lie_in_statistics(path: Path) -> None:
    """The greatest key is said to be another one, in the file's footer."""
    data = path.read_bytes()
    begin = len(data) - int.from_bytes(data[-8:-4], "little")
    place = data.index(b"album/2", begin)
    path.write_bytes(data[:place] + b"album/1" + data[place + 7 :])


def lie_in_metadata(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"_type": "Image"', b'"_type": "Imagf"'))


DAMAGES = [
    (Path.unlink, {"Missing", "Account", "Count"}),
    (cut, {"Damaged", "Account", "Count"}),
    (flip_picture, {"ImageDigest"}),
    (rewrite(drop_row, keep), {"Count", "RowsDigest"}),
    (rewrite(repeat_image, keep), {"RowsDigest", "OtherImage", "Duplicate"}),
    (rewrite(swap_draws, keep), {"RowsDigest", "Draws"}),
    (rewrite(other_seed, keep), {"RowsDigest", "Seed"}),
    (rewrite(keep, lie_about_counts), {"Count"}),
    (rewrite(keep, other_settings), {"Footer"}),
    (lie_in_statistics, {"Statistics"}),
    (lie_in_metadata, {"Schema"}),
    (rewrite(keep, other_job), {"OtherJob", "Account", "Count"}),
]


@pytest.mark.parametrize(("damage", "errors"), DAMAGES)
def test_a_damaged_draws_file_is_found(results: Path, damage: Callable[[Path], None], errors: set[str]) -> None:
    damage(draws_files(results)[0])
    found = run(str(results))
    assert errors_of(found) == errors
    assert draws_files(results)[0].name in "\n".join(found.lines()) or damage is Path.unlink


@pytest.mark.parametrize(
    ("damage", "errors"), [case for case in DAMAGES if case[1] & {"Missing", "Damaged", "OtherJob"}]
)
def test_footers_alone_tell_what_is_missing(results: Path, damage: Callable[[Path], None], errors: set[str]) -> None:
    damage(draws_files(results)[0])
    assert errors_of(run(str(results), quick=True)) == errors


def test_one_chunk_in_the_place_of_another_is_found(results: Path) -> None:
    first, second = draws_files(results)[:2]
    shutil.copyfile(second, first)
    assert "OtherChunk" in errors_of(run(str(results)))


def test_what_lies_around_the_draws_is_checked_too(results: Path) -> None:
    shutil.copyfile(draws_files(results)[0], results / "draws/more.parquet")
    (results / "errors/001.parquet").unlink()
    shutil.copyfile(results / "errors/002.parquet", results / "errors/000.parquet")
    facts = json.loads((results / "run.json").read_text())
    facts["counts"]["draws"] += 2
    (results / "run.json").write_text(json.dumps(facts))
    (results / "attempts/x").mkdir(parents=True)
    (results / "attempts/x/0").write_bytes(b"")
    found = run(str(results))
    assert found.findings.counts == {"Stray": 1, "Missing": 1, "Errors": 1, "Count": 1}
    assert "attempts      1" in "\n".join(found.lines())


def test_an_unfinished_job_is_told_as_such(made: Path, tmp_path: Path) -> None:
    run_job(job_in(made, SETTINGS, results=str(tmp_path / "r")), stop_after=2)
    found = run(str(tmp_path / "r"))
    assert found.findings.counts["Missing"] == 2 + 1  # chunks, and run.json
    assert "run it again" in "\n".join(found.lines())


def test_a_damaged_plan_is_a_fault_and_no_plan_at_all_an_error(results: Path, tmp_path: Path) -> None:
    cut(results / "plan/001.parquet")
    found = run(str(results))
    assert found.exit_code == 1
    assert "plan/001" in "\n".join(found.lines())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no plan"):
        run(str(tmp_path / "empty"))
    with pytest.raises(MissingError):
        run(str(tmp_path / "nothing"))


def test_faults_are_bounded_and_counted(results: Path) -> None:
    for number in range(70):
        (results / f"draws/stray-{number}.parquet").write_bytes(b"")
    lines = run(str(results)).lines()
    assert len(lines) < 60
    assert "faults        70" in "\n".join(lines)
    assert "20 more" in lines[-1]


def test_a_column_of_another_type_is_told(results: Path) -> None:
    """As a flipped bit of a footer makes a text's column one of bytes."""
    path = draws_files(results)[0]
    table = pq.read_table(path)
    place = table.schema.get_field_index("source")
    kind = table.schema.field(place).with_type(pa.binary())
    pq.write_table(table.set_column(place, kind, table["source"].cast(pa.binary())), path)
    found = run(str(results))
    assert found.exit_code == 1
    assert any("column source is binary" in line for line in found.lines())


@pytest.mark.slow
@pytest.mark.soak
def test_no_bit_that_is_flipped_in_a_draws_file_ends_the_check(results: Path) -> None:
    """Random bits, most in the footer, where Arrow itself can end a process; what holds data is always seen."""
    path = draws_files(results)[0]
    whole = path.read_bytes()
    rows = int.from_bytes(whole[-8:-4], "little") + 8
    rng = random.Random(os.environ["SOAK_SEED"])
    places = [rng.randrange(4, len(whole) - rows) for _ in range(FLIPS // 6)]
    places += [len(whole) - 1 - rng.randrange(rows) for _ in range(FLIPS - len(places))]
    seen = 0
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        seen += run(str(results)).exit_code
    assert seen > FLIPS / 2
    path.write_bytes(whole)
    assert run(str(results)).exit_code == 0


def test_in_object_storage_by_threads_and_by_ray(
    results: Path, s3: Any, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.uri("verify")
    s3.filesystem().put(str(results), f"{bucket}/results", recursive=True)
    assert run(f"{bucket}/results").exit_code == 0
    monkeypatch.setattr("pipelines.results.verification.job.RAY_FROM_BYTES", 0)
    name = f"{bucket}/results/draws/{draws_files(results)[1].name}"
    data = bytearray(s3.filesystem().cat_file(name))
    data[data.index(b"\xff\xd8\xff") + 200] ^= 1
    s3.filesystem().pipe_file(name, bytes(data))
    found = run(f"{bucket}/results")
    assert found.findings.counts == {"ImageDigest": 1}
    assert found.findings.rows == 18
