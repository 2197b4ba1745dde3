"""`condgen evaluate`: results, a model, references elsewhere, pairs; the same numbers for the same draws."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from samples import paired_dataset
from small_results import SIZE_PX, job_in, run_job, write_picture

from condgen.errors import ConfigError, DatasetError
from jobs.evaluation.evaluate import EvaluationReport, run
from jobs.report import page as report
from pipelines.evaluation.job import Evaluation
from pipelines.evaluation.options import EvaluateOptions
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import open_store

SETTINGS = BatchSettings(draws=2, seed=3, batch_size=4, chunk_samples=4, precision="fp32")
COUNT = 10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of color images, the same in grey, one file that is no image, and results of both."""
    root = tmp_path_factory.mktemp("evaluate")
    for number in range(COUNT):
        path = root / f"color/album/{number}.png"
        write_picture(path, number, size=(44 + number, 40))
        (root / "grey/album").mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("L").save(root / f"grey/album/{number}.png")
    (root / "color/album/bad.png").write_text("no image")
    for name in ("color", "grey"):
        run_job(job_in(root, SETTINGS, name, f"of-{name}"))
    return root


def options(**changes: object) -> EvaluateOptions:
    values = {"size_px": 32, "resamples": 50, "weights": "none", "settings": SETTINGS}
    return EvaluateOptions(**{**values, **changes})


def numbers(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    return {
        metric: {answer: one.value for answer, one in by_answer.items()}
        for metric, by_answer in evaluation.values.items()
    }


def test_results_are_judged_against_their_own_archive(made: Path, tmp_path: Path) -> None:
    found = run(options(results=str(made / "of-color"), out=str(tmp_path)))
    assert found.facts["images"] == COUNT
    assert found.facts["not_measured"] == {"no draws": 1}
    assert list(found.values["auc_raw"]) == ["draws", "best", "grey", "mean_color"]
    assert found.values["auc_raw"]["grey"].value > found.values["auc_raw"]["draws"].value
    facts = json.loads((tmp_path / "evaluation.json").read_text())
    assert facts["metrics"]["auc_raw"]["draws"]["value"] == found.values["auc_raw"]["draws"].value
    raw = facts["curves"]["draws"]["raw"]
    assert len(raw) == 151
    assert 100 * np.mean(raw) == pytest.approx(facts["metrics"]["auc_raw"]["draws"]["value"], abs=1.5)
    assert 100 * np.mean(facts["curves"]["grey"]["balanced"]) == pytest.approx(
        facts["metrics"]["auc_balanced"]["grey"]["value"]
    )
    rows = pq.read_table(tmp_path / "evaluation.parquet")
    assert rows.num_rows == COUNT * (1 + 3 + 1 + 2)  # reference, draws as a whole and two, best, grey and mean color


def test_a_models_draws_are_those_that_a_job_would_have_stored(made: Path, tmp_path: Path) -> None:
    stored = run(options(results=str(made / "of-color"), out=str(tmp_path / "a")))
    fresh = run(options(model=str(made / "model"), data=str(made / "color"), draws=2, out=str(tmp_path / "b")))
    assert numbers(fresh) == numbers(stored)
    assert (tmp_path / "a/evaluation.parquet").read_bytes() == (tmp_path / "b/evaluation.parquet").read_bytes()
    assert fresh.facts["not_measured"] == {"decode": 1}


def test_references_elsewhere_are_found_by_key_and_the_input_is_a_row(made: Path, tmp_path: Path) -> None:
    found = run(options(results=str(made / "of-grey"), reference=str(made / "color"), out=str(tmp_path)))
    assert found.facts["images"] == COUNT
    assert list(found.values["auc_raw"]) == ["draws", "best", "input", "grey", "mean_color"]
    assert found.values["chroma"]["reference"].value > 5
    assert found.values["auc_raw"]["input"].value == pytest.approx(found.values["auc_raw"]["grey"].value, abs=0.5)


def test_a_copy_of_the_archive_is_the_archive(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    for path in sorted((made / "color").rglob("*.png")):
        target = copy / path.relative_to(made / "color")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    here = run(options(results=str(made / "of-color"), out=str(tmp_path / "a")))
    there = run(options(results=str(made / "of-color"), reference=str(copy), out=str(tmp_path / "b")))
    assert numbers(here) == numbers(there)
    assert "input" not in there.values["auc_raw"]


def test_sets_without_a_key_in_common_are_refused(made: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "others/one.png", 1)
    with pytest.raises(DatasetError, match=r"10 no reference.*keys of the two sets differ"):
        run(options(results=str(made / "of-grey"), reference=str(tmp_path / "others"), out=str(tmp_path / "out")))


def test_a_grey_reference_is_told(made: Path, tmp_path: Path) -> None:
    lines = EvaluationReport(run(options(results=str(made / "of-grey"), out=str(tmp_path)))).lines()
    assert any("The reference is grey" in line for line in lines)


def test_the_table_tells_what_the_model_does_not_beat(made: Path, tmp_path: Path) -> None:
    lines = EvaluationReport(run(options(results=str(made / "of-color"), out=str(tmp_path)))).lines()
    assert any(line.startswith("AuC raw: 2 draws") and "do not beat grey" in line for line in lines)
    assert any("at 32 px, the short side" in line for line in lines)


def test_a_point_and_draws_stand_in_one_table(made: Path) -> None:
    found = run(options(model=str(made / "model"), data=str(made / "color"), draws=2, point=True, limit=4))
    assert found.facts["images"] == 4
    assert list(found.values["energy_score"]) == ["point", "draws", "grey", "mean_color"]
    assert found.out is None
    alone = run(options(model=str(made / "model"), data=str(made / "color"), point=True, limit=4))
    assert "draws" not in alone.values["auc_raw"]
    assert numbers(alone)["auc_raw"]["point"] == numbers(found)["auc_raw"]["point"]


def test_a_classifier_has_a_likelihood_and_a_calibration(made: Path) -> None:
    found = run(options(model=str(made / "model"), data=str(made / "color"), point=True))
    nll = found.values["nll"]["reference"].value
    assert nll == pytest.approx(np.log(313), abs=0.6)  # of a model that knows nothing yet
    calibration = found.facts["calibration"]
    assert sum(row["places"] for row in calibration["table"]) == COUNT * (SIZE_PX // 4) ** 2
    assert 0 <= calibration["expected_error"] < 0.1


def test_pairs_are_answered_for_the_input_and_judged_by_the_target(tmp_path: Path) -> None:
    data = paired_dataset(tmp_path / "pairs", 6)
    found = run(options(model="small_results:Negative", data=data, split="train"))
    assert found.facts["kind"] == "translate"
    assert list(found.values["psnr"]) == ["point", "input", "mean_image"]
    assert found.values["psnr"]["point"].value > 35
    assert found.values["psnr"]["input"].value < 15
    # The pictures are alike, so that their mean is near the truth as well; the input is far, and as smooth.
    assert [one.metric for one in found.shortfalls if one.trivial == "input"] in ([], ["total_variation_ratio"])
    assert "auc_raw" not in found.values


@pytest.mark.slow
def test_distances_of_sets_carry_the_extractors_name(made: Path, tmp_path: Path) -> None:
    from pipelines.models.pretrained_weights import find_mobilenet_v2

    if find_mobilenet_v2() is None:
        pytest.skip("MobileNetV2's weights are not installed")
    found = run(options(results=str(made / "of-color"), weights=None, out=str(tmp_path)))
    distances = found.values["frechet_mobilenet_v2"]
    assert set(distances) == {"draws", "grey", "mean_color"}
    assert all(one.value > 0 and one.low is None for one in distances.values())
    assert found.facts["features"]["weights_sha256"].startswith("b0353104")
    assert not any("FID" in line for line in EvaluationReport(found).lines())


def test_unfinished_results_are_judged_by_what_is_there(made: Path, tmp_path: Path) -> None:
    assert run_job(job_in(made, SETTINGS, "color", str(tmp_path / "part")), stop_after=1) is None
    found = run(options(results=str(tmp_path / "part")))
    assert found.facts["images"] == 4
    assert found.facts["not_measured"] == {"not done yet": COUNT + 1 - 4}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "either finished RESULTS"),
        ({"results": "x", "model": "y"}, "either finished RESULTS"),
        ({"model": "y"}, "a dataset beside --model"),
        ({"model": "y", "data": "z", "reference": "w"}, "a dataset beside --model"),
        ({"results": "x", "point": True}, "RESULTS have their draws"),
    ],
)
def test_options_that_do_not_go_together_are_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        run(options(**changes))


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 0)
    with pytest.raises(DatasetError, match="has no plan"):
        run(options(results=str(tmp_path)))
    assert open_store(tmp_path).list()


def test_the_report_shows_the_evaluation_that_lies_beside_the_results(made: Path) -> None:
    run(options(results=str(made / "of-color")))
    page = Path(report.run(str(made / "of-color")).path).read_text()
    table = page.partition('id="evaluation"')[2].partition("</table>")[0]
    assert "AuC class-balanced" in table
    assert "best of 2" in table
    assert "2 draws (" in page  # the sentences
    assert page.count('<polyline class="line line') == 2 * 4  # raw and balanced, of draws, best, grey and mean color
    assert "Reliability of the model" in page
    (made / "of-color/evaluation.json").write_text('{"format": "another"}')
    with pytest.raises(DatasetError, match="evaluate again"):
        report.run(str(made / "of-color"))
    (made / "of-color/evaluation.json").unlink()
