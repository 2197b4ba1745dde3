"""`condgen compare`: a difference that is there is called real, one that is not is not, other images are refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small_results import job_in, run_job, write_picture

from condgen.errors import DatasetError
from jobs.evaluation.compare import Comparison, run
from jobs.evaluation.evaluate import run as evaluate
from jobs.results.statements import state
from pipelines.evaluation.comparison import Difference
from pipelines.evaluation.options import EvaluateOptions
from pipelines.models.options import ColorizeOptions
from pipelines.results.settings import BatchSettings

SETTINGS = BatchSettings(draws=2, batch_size=4, precision="fp32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluations of 12 images: draws, draws of another seed, and draws in paler colors."""
    root = tmp_path_factory.mktemp("compare")
    for number in range(12):
        write_picture(root / f"color/{number}.png", number, size=(44 + number, 40))
    changes = {"one": {}, "other": {"seed": 1}, "pale": {"colorize": ColorizeOptions(chroma=0.3)}}
    for name, values in changes.items():
        run_job(job_in(root, replace(SETTINGS, **values), "color", name))
        evaluate(EvaluateOptions(results=str(root / name), size_px=32, resamples=0, weights="none"))
    return root


def of(found: Comparison, metric: str, answer: str = "draws") -> Difference:
    return next(one for one in found.differences if one.metric == metric and one.answers == (answer, answer))


def test_paler_draws_are_really_nearer_to_the_truth(made: Path, tmp_path: Path) -> None:
    found = run(str(made / "one"), str(made / "pale"), out=str(tmp_path / "ab.json"))
    for metric in ("auc_raw", "ab_error", "psnr"):
        one = of(found, metric)
        assert (one.is_real, one.better) == (True, "B"), metric
        assert one.p_value < 0.01, metric
        assert one.low <= one.difference <= one.high, metric
    assert any(line.startswith("B is really better in: AuC raw") for line in found.lines())
    stored = json.loads((tmp_path / "ab.json").read_text())["differences"]
    assert [one["metric"] for one in stored] == [one.metric for one in found.differences]


def test_a_gallery_of_both_says_the_same(made: Path, tmp_path: Path) -> None:
    said = state([str(made / "one"), str(made / "pale")])
    assert said["comparison"] == run(str(made / "one"), str(made / "pale")).lines()
    table = said["evaluations"]["B"]
    assert [len(row) for row in table["rows"]] == [len(table["answers"]) + 1] * len(table["rows"])
    assert "2 draws" in table["answers"]
    shutil.copytree(made / "one", tmp_path / "bare", ignore=shutil.ignore_patterns("evaluation.*"))
    assert state([str(made / "one"), str(tmp_path / "bare")])["comparison"] is None


def test_draws_of_another_seed_are_not_really_better(made: Path) -> None:
    found = run(str(made / "one"), str(made / "other"))
    real = [one.metric for one in found.differences if one.is_real and one.answers == ("draws", "draws")]
    assert len(real) <= 2, real  # 14 metrics at 5 % each
    assert "No real difference" in "\n".join(found.lines())


def test_an_evaluation_does_not_differ_from_itself(made: Path) -> None:
    found = run(str(made / "one"), str(made / "one"))
    assert {one.difference for one in found.differences} == {0.0}
    assert not any(one.is_real for one in found.differences)
    assert {one.p_value for one in found.differences} == {1.0}


def test_swapped_sides_turn_the_signs_and_not_the_verdict(made: Path) -> None:
    there, back = run(str(made / "one"), str(made / "pale")), run(str(made / "pale"), str(made / "one"))
    for one, other in zip(there.differences, back.differences, strict=True):
        assert one.difference == pytest.approx(-other.difference)
        assert {one.better, other.better} in ({"A", "B"}, {""})
        assert one.is_real == other.is_real


def copy(made: Path, folder: Path, **facts: object) -> tuple[pa.Table, Path]:
    folder.mkdir()
    known = json.loads((made / "one/evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps(known | facts))
    return pq.read_table(made / "one/evaluation.parquet"), folder


def test_other_images_are_refused_and_named(made: Path, tmp_path: Path) -> None:
    table, folder = copy(made, tmp_path / "fewer")
    pq.write_table(table.filter(pc.not_equal(table["key"], "7")), folder / "evaluation.parquet")
    with pytest.raises(DatasetError, match=r"not of the same images: 1 only in A \(7\)"):
        run(str(made / "one"), str(folder))


def test_images_in_another_order_and_of_other_sources_are_paired_by_key(made: Path, tmp_path: Path) -> None:
    table, folder = copy(made, tmp_path / "turned")
    moved = table.set_column(0, table.schema.field(0), pa.array(["test-000000.tar"] * table.num_rows))
    keys = sorted(set(table["key"].to_pylist()), reverse=True)
    turned = pa.concat_tables([moved.filter(pc.equal(moved["key"], key)) for key in keys])
    pq.write_table(turned, folder / "evaluation.parquet")
    assert {one.difference for one in run(str(made / "one"), str(folder)).differences} == {0.0}


def test_another_resolution_or_reference_is_refused(made: Path, tmp_path: Path) -> None:
    table, folder = copy(made, tmp_path / "larger", size_px=64)
    pq.write_table(table, folder / "evaluation.parquet")
    with pytest.raises(DatasetError, match="size_px 32 and 64"):
        run(str(made / "one"), str(folder))
    table, folder = copy(made, tmp_path / "elsewhere")
    place = table.schema.get_field_index("total_variation")
    wrong = table.set_column(place, table.schema.field(place), pc.add(table["total_variation"], 1.0))
    pq.write_table(wrong, folder / "evaluation.parquet")
    with pytest.raises(DatasetError, match="the true images of the two differ"):
        run(str(made / "one"), str(folder))


def test_a_folder_without_an_evaluation_is_told(made: Path) -> None:
    with pytest.raises(DatasetError, match="run condgen evaluate"):
        run(str(made / "one"), str(made / "model"))


def test_an_evaluation_of_before_a_metric_was_there_is_compared_in_the_others(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "one", tmp_path / "before")
    rows = tmp_path / "before" / "evaluation.parquet"
    pq.write_table(pq.read_table(rows).drop_columns(["colorfulness"]), rows)
    names = {one.metric for one in run(str(tmp_path / "before"), str(made / "pale")).differences}
    assert "psnr" in names
    assert "colorfulness" not in names
