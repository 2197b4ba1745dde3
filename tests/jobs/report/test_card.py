"""Dataset cards: Hugging Face's own libraries read them, and names from the data stay text."""

import json
from pathlib import Path
from typing import Any

import pytest
from hub import load_dataset
from PIL import Image
from samples import saved, smooth

from condgen.errors import ConfigError, DatasetError
from jobs.cli import app as cli
from jobs.report.card import plain, run_card
from pipelines.batch.archive import plan_archive
from pipelines.datasets.chunk import ChunkLimits, iter_chunks
from pipelines.results.files import Draw, Failure, draws_name, encode_draws, write_errors
from pipelines.results.plan import write_plan
from pipelines.results.settings import BatchSettings, OutputOptions
from pipelines.storage.store import open_store

__all__ = ["load_dataset"]

NASTY = "a|b <img src=x> [c](d) `e` *f*\n# g \u202eh"
DRAWS = 2


def make_results(root: Path, *, archive: str = "photos", failing: tuple[int, ...] = (3,), **model: str) -> Path:
    """Results of four images in two chunks, with a column that was copied; those that fail have no draws."""
    folder = root / archive
    folder.mkdir(parents=True)
    for number in range(4):
        smooth(number, (20, 15)).save(folder / f"{number}.png")
    store = open_store(root / "results")
    columns = (("caption", "string"), ("stars", "int64"))
    settings = BatchSettings(draws=DRAWS, output=OutputOptions(columns=columns)).to_json()
    facts = {"uri": "/home/somebody/models/mine", "family": "mixture", "digest": "d" * 64, **model}
    chunks = plan_archive(open_store(folder), ChunkLimits(samples=2))
    plan = write_plan(store, chunks, archive=str(folder), model=facts, settings=settings)
    failures: list[Failure] = []
    for chunk in iter_chunks(plan.chunks):
        draws, own = [], []
        for place, file in enumerate(chunk.files):
            key = Path(file.name).stem
            if int(key) in failing:
                of_file = {"source": file.name, "key": key, "place": place}
                own.append(Failure(**of_file, stage="decode", error="NotAnImage", message=NASTY))
                continue
            draws += [_draw(file.name, key, number) for number in range(DRAWS)]
        data = encode_draws(draws, own, {"chunk": chunk.name}, samples=chunk.samples, columns=columns)
        store.write(draws_name(chunk.name), data)
        failures += own
    write_errors(store, "000", failures)
    done = 4 - len(failing)
    counts = {"images": 4, "with_draws": done, "draws": done * DRAWS, "errors": len(failing), "filtered": 0}
    content = {
        "archive": str(folder),
        "model": facts,
        "settings": settings,
        "plans": [{"name": "000", "kind": "archive", "digest": plan.plan.digest, "images": 4}],
        "counts": counts | {"errors_by_kind": {"decode NotAnImage": len(failing)} if failing else {}},
        "versions": {"condgen": "0.3.0", "torch": "2.15.0"},
    }
    store.write("run.json", json.dumps(content).encode())
    return root / "results"


def _draw(source: str, key: str, number: int) -> Draw:
    data = saved(smooth(number + 7, (20, 15)), "JPEG")
    return Draw(
        source=source, key=key, draw=number, seed=0, image=data, path=f"{key}.jpg", width=20, height=15,
        source_sha256="0" * 64, facts={"caption": NASTY, "stars": 5},
    )  # fmt: skip


def test_the_hub_s_library_reads_the_card(tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    results = make_results(tmp_path)
    assert cli._run(["report", str(results), "--card"]) == 0
    card = DatasetCard.load(results / "README.md")
    facts = card.data.to_dict()
    assert facts["pretty_name"] == "photos, colorized by condgen"
    assert facts["size_categories"] == ["n<1K"]
    assert {"condgen", "colorization", "synthetic"} <= set(facts["tags"])
    assert "license" not in facts, "its owner decides"
    text = (results / "README.md").read_text()
    assert "# license: to be filled in" in text
    assert [one["config_name"] for one in facts["configs"]] == ["draws", "errors"]
    assert "The colors are invented." in card.text
    assert "3 with draws + 1 in errors = 4" in card.text
    assert "1 decode NotAnImage" in card.text
    assert "/home/somebody" not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("streaming", [False, True])
def test_the_folder_is_a_dataset_as_it_is(tmp_path: Path, load_dataset: Any, streaming: bool) -> None:
    results = make_results(tmp_path, failing=(2, 3))
    run_card(str(results))
    draws = load_dataset(str(results), split="train", streaming=streaming)
    rows = list(draws)
    assert [(row["key"], row["draw"]) for row in rows] == [("0", 0), ("0", 1), ("1", 0), ("1", 1)]
    assert all(isinstance(row["image"], Image.Image) for row in rows)
    assert [(row["caption"], row["stars"]) for row in rows] == [(NASTY, 5)] * 4
    errors = list(load_dataset(str(results), "errors", split="train", streaming=streaming))
    assert [(row["key"], row["message"]) for row in errors] == [("2", NASTY), ("3", NASTY)]


def test_a_card_makes_images_of_version_0_1_s_results(tmp_path: Path, load_dataset: Any) -> None:
    import shutil

    shutil.copytree(Path(__file__).resolve().parents[2] / "old_data" / "0.1" / "results", tmp_path / "results")
    run_card(str(tmp_path / "results"))
    draws = load_dataset(str(tmp_path / "results"), split="train")
    assert draws.num_rows == 12
    assert isinstance(draws[0]["image"], Image.Image)


def test_names_from_the_data_are_text_in_markdown_and_yaml(tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    name = "x\u202e|<script>alert(1)<b>: `[a](b)` # -\n- y"
    results = make_results(tmp_path, archive=name, uri="models/![m](n)|", family="user")
    run_card(str(results))
    card = DatasetCard.load(results / "README.md")
    assert "\u202e" not in card.content
    assert not {"<script>", "[a](b)", "![m](n)"} & {
        part for part in ("<script>", "[a](b)", "![m](n)") if part in card.text
    }
    assert r"models/" not in card.text
    assert card.data.to_dict()["pretty_name"].startswith("x\\u202e|<script>")
    rows = [line for line in card.text.splitlines() if line.startswith("| archive")]
    assert rows[0].replace("\\|", "").count("|") == 3, "a table's row has its two cells"


def test_plain_text_is_shown_letter_by_letter() -> None:
    assert plain("image_sha256 *x*") == r"image\_sha256 \*x\*"
    assert plain("a\nb|c") == r"a\\u000ab\|c"
    assert plain("s3 album 1.5") == "s3 album 1.5"


def test_results_without_errors_have_no_configuration_of_them(tmp_path: Path) -> None:
    results = make_results(tmp_path, failing=())
    text = Path(run_card(str(results), str(tmp_path / "card.md")).path).read_text()
    assert "errors/*.parquet" not in text
    assert not (results / "README.md").exists()


def test_a_card_that_was_filled_in_is_not_written_over(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    run_card(str(results))
    run_card(str(results))
    card = results / "README.md"
    filled_in = card.read_text().replace("# license: to be", "license: cc0-1.0\n# to be")
    card.write_text(filled_in)
    with pytest.raises(ConfigError, match="not taken"):
        run_card(str(results))
    assert card.read_text() == filled_in


def test_results_that_are_not_complete_have_no_card(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    (results / "run.json").unlink()
    with pytest.raises(DatasetError, match="not complete"):
        run_card(str(results))


def test_the_evaluation_is_a_table_of_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.evaluation.table import Table
    from jobs.report.evaluation import EvaluationSection

    results = make_results(tmp_path)
    (results / "evaluation.parquet").write_bytes(b"")
    table = Table(answers=["draws", "grey | none"], rows=[("accuracy", ["1.0", "2.0"]), ("error", ["3.0", "4.0"])])
    section = EvaluationSection(
        notes=[("images", "320")], table=table, sentences=["It beats grey."], curves={}, reliability=()
    )
    monkeypatch.setattr("jobs.report.card.read_section", lambda _: section)
    text = Path(run_card(str(results)).path).read_text()
    lines = "\n| | draws | grey \\| none |\n| --- | ---: | ---: |\n| accuracy | 1.0 | 2.0 |\n| error | 3.0 | 4.0 |\n"
    assert lines in text
    assert "It beats grey." in text
    assert "path: evaluation.parquet" in text
