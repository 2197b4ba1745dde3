"""The report: one file with everything in it, which escapes what it shows and adds up."""

import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from samples import saved
from small_results import run_job, write_picture

from condgen.errors import DatasetError, MissingError
from jobs.report.choice import RANDOM, choose
from jobs.report.failures import read_failures
from jobs.report.measured import read_evaluated
from jobs.report.page import run
from jobs.report.results_files import ResultsFiles
from jobs.report.thumbnails import Quality, encode_within, qualities_for
from pipelines.batch.archive import plan_archive
from pipelines.batch.engine import About, Functions
from pipelines.batch.job import BatchJob
from pipelines.datasets.chunk import ChunkLimits, iter_chunks
from pipelines.results.files import Draw, Failure, draws_name, encode_draws, write_errors
from pipelines.results.plan import job_digest, load_plans, write_plan
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import open_store

NASTY = "<script>alert('x')</script>&\"'"
DRAWS = 3


def make_results(archive: Path, results: Path, *, model: Path, failing: str = "flower", message: str = NASTY) -> None:
    """Results as `condgen colorize` leaves them, with rotated originals for draws."""
    store = open_store(results)
    chunks = plan_archive(open_store(archive), ChunkLimits(samples=3))
    facts = {"uri": str(model), "family": "color_classifier", "digest": "d" * 64}
    settings = BatchSettings(draws=DRAWS).to_json()
    generation = write_plan(store, chunks, archive=str(archive), model=facts, settings=settings)
    plan, job = generation.plan, job_digest("d" * 64, settings)
    failures: list[Failure] = []
    for chunk in iter_chunks(generation.chunks):
        draws: list[Draw] = []
        own: list[Failure] = []
        for place, file in enumerate(chunk.files):
            key = Path(file.name).stem
            if key == failing:
                of_file = {"source": file.name, "key": key, "place": place}
                own.append(Failure(**of_file, stage="decode", error="OSError", message=message))
                continue
            with Image.open(archive / file.name) as image:
                width, height = image.size
                size = {"width": width, "height": height, "source_sha256": "0" * 64}
                for k in range(DRAWS):
                    data, path = saved(image.rotate(90 * k), "JPEG"), f"{key}-{k}.jpg"
                    draws.append(Draw(source=file.name, key=key, draw=k, seed=0, image=data, path=path, **size))
        store.write(
            draws_name(chunk.name), encode_draws(draws, own, {"job": job, "chunk": chunk.name}, samples=chunk.samples)
        )
        failures += own
    write_errors(store, "000", failures)
    done = plan.num_samples - len(failures)
    counts = {"images": plan.num_samples, "with_draws": done, "draws": done * DRAWS}
    content = {
        "archive": str(archive),
        "model": facts,
        "settings": settings,
        "plans": [{"name": "000", "kind": "archive", "digest": plan.digest, "images": plan.num_samples}],
        "counts": counts | {"errors": len(failures), "filtered": 0},
        "this_run": {"images": plan.num_samples, "seconds": 2.0, "images_per_s": 3.5},
        "versions": {"condgen": "0.1.0", "torch": "2.15.0"},
    }
    store.write("run.json", json.dumps(content).encode())


@pytest.fixture
def results(photos: Path, tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    rows = [{"step": step, "loss": 4.0 / step, "images_per_s": 100.0} for step in range(10, 401, 10)]
    (model / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_results(photos, tmp_path / "results", model=model)
    return tmp_path / "results"


class _Page(HTMLParser):
    """Counts a page's elements and collects its attributes and its text, that of scripts apart."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = attributes, before + data
        elif self.cdata_elem is None:
            self.text += data

    @property
    def samples(self) -> list[dict[str, str | None]]:
        """The images of samples, without those of errors."""
        return [image for image in self.images if str(image["id"]).startswith("i")]

    @property
    def content(self) -> Any:
        """What the page's script reads."""
        return json.loads(next(text for attributes, text in self.scripts if attributes.get("id") == "data"))


def read(page: Any) -> tuple[str, _Page]:
    html = Path(page.path).read_text()
    return html, _Page(html)


def test_each_sample_has_its_input_its_draws_and_its_original(results: Path) -> None:
    page = run(str(results))
    assert page.path == str(results / "report.html")
    assert page.num_samples == 6
    _, parsed = read(page)
    assert parsed.tags.count("article") == 6
    assert len(parsed.samples) == 6 * (DRAWS + 2)
    assert all(image["alt"] for image in parsed.images)
    labels = re.findall(r"<figcaption>([^<]*)</figcaption>", read(page)[0])
    assert labels[: DRAWS + 2] == ["grey input", "draw 0", "draw 1", "draw 2", "original"]


def test_the_images_are_images(results: Path) -> None:
    import base64

    _, parsed = read(run(str(results), max_samples=1))
    sources = [image["src"] or "" for image in parsed.samples]
    assert len(sources) == DRAWS + 2
    modes = []
    for source in sources:
        head, data = source.split(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            image.load()
            modes.append(image.mode)
    assert modes == ["L", "RGB", "RGB", "RGB", "RGB"]


def test_what_comes_from_the_data_is_escaped(results: Path) -> None:
    html, parsed = read(run(str(results)))
    assert [attributes.get("type") for attributes, _ in parsed.scripts] == ["application/json", None]
    assert NASTY not in html
    assert NASTY in parsed.text
    assert parsed.content["errors"][0]["error"]["message"] == NASTY


def test_a_nasty_name_of_an_image_is_shown_as_it_is(photos: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    name = "<img src=x onerror=alert(1)> &\"'.jpg"
    shutil.copyfile(photos / "china.jpg", archive / name)
    make_results(archive, tmp_path / "results", model=tmp_path)
    _, parsed = read(run(str(tmp_path / "results")))
    assert len(parsed.samples) == DRAWS + 2
    assert all("onerror" not in image for image in parsed.images)
    assert Path(name).stem in parsed.text


def test_nothing_is_loaded_from_anywhere(results: Path) -> None:
    html, parsed = read(run(str(results)))
    assert not {"link", "iframe", "object", "base"} & set(parsed.tags)
    assert not any("src" in attributes for attributes, _ in parsed.scripts)
    assert "http://" not in html
    assert "https://" not in html
    assert not re.search(r"url\(|@import", html)


def test_the_counts_and_the_curve_are_there(results: Path) -> None:
    _, parsed = read(run(str(results)))
    assert "6 with draws + 1 in errors = 7 in" in parsed.text
    assert parsed.tags.count("polyline") == 2


def test_a_page_goes_where_it_is_asked_to(results: Path, tmp_path: Path) -> None:
    page = run(str(results), str(tmp_path / "page.html"), max_samples=0)
    assert Path(page.path) == tmp_path / "page.html"
    assert page.num_samples == 0
    assert not (results / "report.html").exists()


def test_fewer_samples_are_random_ones_by_a_seed(results: Path) -> None:
    _, parsed = read(run(str(results), max_samples=3))
    assert parsed.tags.count("article") == 3
    assert len({image["alt"] for image in parsed.samples if "original" in str(image["alt"])}) == 3
    assert "3 of 6 images with draws: chosen at random (seed 0)." in " ".join(parsed.text.split())


def test_originals_that_are_gone_are_named_and_the_draws_still_shown(photos: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(photos, archive)
    make_results(archive, tmp_path / "results", model=tmp_path)
    shutil.rmtree(archive)
    _, parsed = read(run(str(tmp_path / "results")))
    assert len(parsed.samples) == 6 * DRAWS
    assert parsed.tags.count("polyline") == 0


def test_results_that_are_not_complete_are_refused(results: Path, tmp_path: Path) -> None:
    (results / "run.json").unlink()
    with pytest.raises(DatasetError, match="condgen colorize"):
        run(str(results))
    with pytest.raises(MissingError):
        run(str(tmp_path / "nothing"))


def test_the_reader_s_line_of_the_page_works(results: Path) -> None:
    import duckdb

    _, parsed = read(run(str(results)))
    query = re.search(r'duckdb -c "([^"]+)"', parsed.text)
    rows = duckdb.sql(query[1]).fetchall()
    assert len(rows) == 5
    assert all(row[-1] > 500 for row in rows)


def leave_out_dark(rgb: Any, about: About) -> Any:
    return None if about.key == "album/2" else rgb


@pytest.fixture(scope="module")
def translated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translation in three plans: four pictures of which one is filtered, and two later, one at a second try."""
    root = tmp_path_factory.mktemp("translated")
    job = BatchJob(
        archive=str(root / "archive"),
        results=str(root / "results"),
        model="small_results:NoisyTint",
        settings=BatchSettings(kind="translate", draws=2, batch_size=4, chunk_samples=3, precision="fp32"),
        functions=Functions(before=leave_out_dark),
    )
    for number in range(4):
        write_picture(root / f"archive/album/{number}.png", number, size=(90, 60))
    (root / "archive/album/broken.png").write_bytes(b"nothing")
    run_job(job)
    write_picture(root / "archive/new/0.png", 8)
    (root / "archive/new/1.png").write_bytes(b"nothing as well")
    run_job(job)
    write_picture(root / "archive/new/1.png", 9)
    run_job(replace(job, retry_errors=True))
    return root / "results"


def test_a_translation_shows_its_input_in_color_and_once(translated: Path) -> None:
    import base64

    html, parsed = read(run(str(translated)))
    labels = re.findall(r"<figcaption>([^<]*)</figcaption>", html)
    assert labels[: 5 * 3] == ["input", "draw 0", "draw 1"] * 5
    assert "translated by" in parsed.text
    data = (parsed.images[0]["src"] or "").split(",")[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.mode == "RGB"
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > len(image.convert("L").getcolors() or [])


def test_all_plans_are_told_with_their_errors_and_what_was_filtered(translated: Path) -> None:
    _, parsed = read(run(str(translated)))
    text = " ".join(parsed.text.split())
    assert "5 with draws + 1 in errors + 1 filtered by your own functions = 7 in." in text
    assert "2 images, new in the archive" in text
    assert "2 images, tried again after they failed" in text
    assert re.search(r"album/broken\.png.*?002", text), "the error that is left is of the plan that tried it again"
    assert "1 decode" in text


def test_errors_of_every_plan_have_their_share_of_the_page(results: Path) -> None:
    store = open_store(results)

    def failures(source: str, count: int) -> list[Failure]:
        return [
            Failure(source=f"{source}{n}", key=f"{source}{n}", stage="read", error="E", message="m", place=n)
            for n in range(count)
        ]

    write_errors(store, "000", failures("many", 50))
    write_errors(store, "001", failures("few", 1))
    write_errors(store, "002", failures("more", 9))
    assert [(one.row["source"], one.plan) for one in read_failures(store, 4)] == [
        ("many0", "000"), ("few0", "001"), ("more0", "002"), ("more1", "002"),
    ]  # fmt: skip


def test_a_failed_image_is_shown_with_the_command_that_tries_it_again(results: Path) -> None:
    _, parsed = read(run(str(results)))
    (example,) = (image for image in parsed.images if image["id"] == "e0-0")
    assert example["alt"] == "flower, input"
    (error,) = parsed.content["errors"]
    assert error["commands"]["retry"].startswith("condgen colorize ")
    assert error["commands"]["retry"].endswith(" --retry-errors")
    assert f"--model {results.parent / 'model'}" in error["commands"]["retry"]


def test_the_values_of_an_image_are_those_of_its_rows(results: Path) -> None:
    import duckdb

    _, parsed = read(run(str(results)))
    items = {item["key"]: item for item in parsed.content["items"]}
    query = "select key, width, source_sha256, image_sha256 from read_parquet(?) where draw = 1"
    rows = duckdb.execute(query, [f"{results}/draws/*.parquet"]).fetchall()
    assert len(rows) == 6
    for key, width, source_sha256, image_sha256 in rows:
        details = items[key]["details"]
        assert (details["width"], details["source_sha256"]) == (width, source_sha256)
        assert image_sha256 in details["draw 1"]
        assert f"--key {key} --source {items[key]['source']} --draw 1" in items[key]["commands"]["redraw"][1]


def test_without_an_evaluation_the_thumbnails_are_measured(results: Path) -> None:
    _, parsed = read(run(str(results)))
    columns = {column["name"]: column for column in parsed.content["overview"]["columns"]}
    assert set(columns) == {"energy_score", "colorfulness", "diversity"}
    assert columns["energy_score"]["better"] == "lower"
    assert all(item["values"]["diversity"] > 0 for item in parsed.content["items"])


def write_evaluation_rows(results: Path, scores: dict[str, float]) -> None:
    """An evaluation that says only how good the draws of each image are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipelines.evaluation.parts import ROWS_SCHEMA

    nothing = dict.fromkeys(ROWS_SCHEMA.names)
    rows = [
        {**nothing, "source": f"{key}.jpg", "key": key, "answer": answer, "draw": -1, "draws": 1, "energy_score": score}
        for key, value in scores.items()
        for answer, score in (("draws", value), ("grey", -value))
    ]
    pq.write_table(pa.Table.from_pylist(rows, ROWS_SCHEMA), results / "evaluation.parquet")
    (results / "evaluation.json").write_text("{}")


def test_half_of_a_sample_are_the_best_and_the_worst_of_an_evaluation(results: Path) -> None:
    keys = ["astronaut", "chelsea", "china", "coffee", "retina", "rocket"]
    scores = dict(zip(keys, [3.0, 9.0, 1.0, 5.0, 4.0, 2.0], strict=True))
    write_evaluation_rows(results, scores)
    store = open_store(results)
    files = ResultsFiles(store, load_plans(store)[0].chunks)
    evaluated = read_evaluated(store)
    assert evaluated is not None
    choice = choose(files, evaluated, 4, seed=0)
    reasons = {files.read([chunk])[0].images[place][1]: why for (chunk, place), why in choice.reasons.items()}
    assert reasons["china"][0] == "best energy score"
    assert reasons["chelsea"][0] == "worst energy score"
    assert len(reasons) == 4
    assert all(RANDOM in why for key, why in reasons.items() if key not in ("china", "chelsea"))
    assert (choice.num_random, choice.num_extreme, choice.metrics) == (2, 1, ["energy score"])
    assert evaluated.values([("coffee.jpg", "coffee")]) == {("coffee.jpg", "coffee"): {"energy_score": 5.0}}


def test_a_seed_chooses_the_same_images_and_another_seed_others(results: Path) -> None:
    store = open_store(results)
    files = ResultsFiles(store, load_plans(store)[0].chunks)
    chosen = [set(choose(files, None, 2, seed).reasons) for seed in (0, 0, *range(1, 9))]
    assert chosen[0] == chosen[1]
    assert any(one != chosen[0] for one in chosen[2:])
    assert all(len(one) == 2 for one in chosen)


def test_more_images_are_smaller_ones_within_the_same_bound() -> None:
    image = Image.effect_noise((512, 400), 60).convert("RGB")
    steps = (Quality(512, 85), Quality(128, 70), Quality(64, 60))
    uris, quality = encode_within([image] * 4, 60_000, steps)
    assert sum(map(len, uris)) <= 60_000
    assert quality != steps[0]
    assert qualities_for(10, 14_000_000)[0].size_px == 512
    assert qualities_for(2000, 14_000_000)[0].size_px < 256
    assert qualities_for(10**6, 14_000_000)


def test_results_and_page_in_object_storage(results: Path, s3: Any) -> None:
    bucket = s3.uri("report")
    s3.filesystem().put(str(results), f"{bucket}/results", recursive=True)
    page = run(f"{bucket}/results")
    html = s3.filesystem().cat_file(page.path.removeprefix("s3://")).decode()
    assert len(_Page(html).samples) == 6 * (DRAWS + 2)
