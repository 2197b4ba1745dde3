"""One object's trouble is its row of `errors/`; only a storage that is out ends a job, and is told as that."""

import io
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import SETTINGS, UniformColor, write_image
from servers import FlatS3, WebServer

from condgen.errors import AccessError, JobError, MissingError
from pipelines.batch.archive import Selection, plan_archive, some_names
from pipelines.batch.engine import ChunkEngine
from pipelines.datasets.chunk import CHUNK_SCHEMA, ChunkLimits, iter_chunks
from pipelines.datasets.opening import open_archive
from pipelines.datasets.tar import TarWriter
from pipelines.models.colorization import ColorizeTask
from pipelines.results.account import make_account
from pipelines.results.plan import Generation, write_plan
from pipelines.results.retrying import retry_chunks
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import RetryPolicy, Store, open_store

LIMITS = ChunkLimits(samples=4)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "wait", lambda *_: None)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlatS3]:
    with FlatS3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture(scope="session")
def png(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_image(path, 120)
    return path.read_bytes()


class Job:
    """A batch job in this process: the plans, the engine and the account of `pipelines.batch.job`."""

    def __init__(self, archive: str, results: Path, **selection: Any) -> None:
        self.archive = archive
        self.results = open_store(results)
        self.selection = Selection(**selection)
        self.plans: list[Generation] = []

    def run(self, *, retry: bool = False) -> dict[str, tuple[str, str]]:
        """Do what is new, and what failed; return the errors, (stage, error) by source and key."""
        archive = open_archive(self.archive)
        self._do(
            archive.store, plan_archive(archive, LIMITS, self.selection, [p.chunks for p in self.plans]), "archive"
        )
        if retry:
            again = pa.concat_tables([CHUNK_SCHEMA.empty_table(), *retry_chunks(self.plans, self.account())])
            self._do(archive.store, again, "retry")
        account = self.account()
        assert account.is_closed
        failures = [one for of_plan in account.failures.values() for one in of_plan]
        return {f"{one.source} {one.key}": (one.stage, one.error) for one in failures}

    def account(self) -> Any:
        return make_account(self.results, self.plans, "j", SETTINGS.draws)

    def _do(self, archive: Store, chunks: pa.Table, kind: str) -> None:
        if not chunks.num_rows:
            return
        model = {"uri": "m", "family": "f", "digest": "d"}
        self.plans.append(
            write_plan(
                self.results, chunks, archive="a", model=model, settings={}, generation=len(self.plans), kind=kind
            )
        )
        engine = ChunkEngine(
            archive=archive,
            results=self.results,
            model=UniformColor(None),
            task=ColorizeTask(16),
            settings=SETTINGS,
            footer={"job": "j"},
            neighbors=Neighbors([(archive, name) for name in some_names(chunks)]),
        )
        for chunk in iter_chunks(self.plans[-1].chunks):
            engine.run(chunk)


def table(path: Path, uris: list[str]) -> str:
    path.mkdir(exist_ok=True)
    pq.write_table(pa.table({"url": uris}), path / "t.parquet")
    return str(path / "t.parquet")


def tar(data: bytes, *names: str) -> bytes:
    writer = TarWriter()
    for name in names:
        writer.add(name, data)
    return writer.finish()


def drop(handler: Any) -> None:
    handler.close_connection = True
    handler.connection.close()


@pytest.mark.slow
def test_urls_that_fail_are_rows_with_the_servers_code_and_are_tried_again(tmp_path: Path, png: bytes) -> None:
    statuses = [400, 401, 403, 404, 406, 410, 418, 429, 451, 500, 501, 503, 520]
    with WebServer({f"/{status}.png": status for status in statuses}) as web, WebServer({}) as dead:
        gone = dead.uri.replace("127.0.0.1", "localhost")
        web.answers |= {"/a.png": png, "/z.png": png, "/drop.png": drop}
        uris = [f"{web.uri}/{name}.png" for name in ("a", *statuses, "drop", "z")]
        uris += [f"https://{web.uri.removeprefix('http://')}/tls.png", "http://127.0.0.1:1/refused.png"]
        uris += [f"{gone}/404.png", "http://no-such-host.invalid/x.png", "ht!tp://x", "http://[bad/x.png"]
        job = Job(table(tmp_path / "t", uris), tmp_path / "results")
        errors = job.run()
        kinds = [error for _, (stage, error) in sorted(errors.items(), key=lambda item: int(item[0].split("#")[1]))]
        wanted = ["Missing" if status == 404 else f"HTTP {status}" for status in statuses]
        assert kinds[: len(statuses)] == wanted
        assert kinds[len(statuses) + 1 : len(statuses) + 3] == ["TLS", "ECONNREFUSED"]
        assert kinds[len(statuses) + 3] == "Missing"
        assert len(kinds) == len(uris) - 2
        assert {stage for stage, _ in errors.values()} == {"read"}
        web.answers |= {f"/{status}.png": png for status in statuses}
        assert len(job.run(retry=True)) == len(uris) - 2 - len(statuses)


@pytest.mark.slow
def test_messages_are_the_same_in_every_run(tmp_path: Path, png: bytes) -> None:
    found = []
    for run in range(2):
        with WebServer({"/a.png": png, "/b.png": 500}) as web:
            uris = [f"{web.uri}/{name}.png" for name in "ab"] + [
                f"https{web.uri[4:]}/c.png",
                "http://127.0.0.1:1/d.png",
            ]
            job = Job(table(tmp_path / f"t{run}", uris), tmp_path / f"results{run}")
            job.run()
            found.append([one.message for one in job.account().failures_of("000")])
    assert found[0] == found[1]
    assert found[0][0] == "the server answers 500 Internal Server Error"
    assert not any("127.0.0.1" in message for message in found[0])


@pytest.mark.slow
def test_a_certificate_that_nobody_signed_is_its_own_images_error(tmp_path: Path, png: bytes) -> None:
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 1 -subj /CN=localhost"
    if subprocess.run(command.split(), capture_output=True, check=False).returncode:
        pytest.skip("no openssl: install it")
    with WebServer({"/a.png": png}) as plain, WebServer({"/b.png": png}) as safe:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        safe._http.socket = context.wrap_socket(safe._http.socket, server_side=True)
        job = Job(table(tmp_path / "t", [f"{plain.uri}/a.png", f"https{safe.uri[4:]}/b.png"]), tmp_path / "results")
        assert job.run() == {"t.parquet #1": ("read", "TLS")}


def test_a_dead_host_of_many_rows_leaves_the_others_alone(tmp_path: Path, png: bytes) -> None:
    with WebServer({"/a.png": png}) as web:
        uris = [f"http://127.0.0.1:1/{number}.png" for number in range(30)] + [f"{web.uri}/a.png"] * 2
        job = Job(table(tmp_path / "t", uris), tmp_path / "results")
        assert len(job.run()) == 30


def test_where_nothing_at_all_answers_the_job_stops_and_says_so(tmp_path: Path) -> None:
    with WebServer({}, default=503) as web:
        job = Job(table(tmp_path / "t", [f"{web.uri}/{number}.png" for number in range(40)]), tmp_path / "results")
        with pytest.raises(JobError, match=r"storage of http://127.* is out: \d+ different objects in a row.*HTTP 503"):
            job.run()
    assert not job.results.list("draws")


def test_a_server_that_goes_away_in_the_middle_stops_the_job_and_what_is_done_stays(tmp_path: Path, png: bytes) -> None:
    served: list[str] = []
    lock = threading.Lock()

    def answer(handler: Any) -> None:
        with lock:
            served.append(handler.path)
            is_up = len(served) <= 8
        handler.send(200 if is_up else 503, png)

    with WebServer({f"/{number}.png": answer for number in range(60)}) as web:
        job = Job(table(tmp_path / "t", [f"{web.uri}/{number}.png" for number in range(60)]), tmp_path / "results")
        with pytest.raises(JobError, match="is out"):
            job.run()
        assert job.results.list("draws")


def test_objects_in_an_archive_class_are_rows_and_done_once_they_are_restored(
    tmp_path: Path, png: bytes, s3: FlatS3
) -> None:
    names = [f"{number}.png" for number in range(6)]
    s3.objects = {("bucket", f"photos/{name}"): png for name in names}
    s3.refused = {
        ("bucket", "photos/1.png"): (403, "InvalidObjectState"),
        ("bucket", "photos/3.png"): (500, "Internal"),
    }
    s3.refused["bucket", "photos/5.png"] = (403, "AccessDenied")
    job = Job("s3://bucket/photos", tmp_path / "results")
    assert job.run() == {
        "1.png 1": ("read", "S3 InvalidObjectState"),
        "3.png 3": ("read", "S3 Internal"),
        "5.png 5": ("read", "S3 AccessDenied"),
    }
    s3.refused = {}
    assert job.run(retry=True) == {}
    assert job.account().with_draws == 6


@pytest.mark.parametrize(("status", "code", "told"), [
    (403, "AccessDenied", "is out"), (503, "SlowDown", "is out"), (403, "InvalidAccessKeyId", "credentials"),
])  # fmt: skip
def test_a_bucket_that_gives_nothing_stops_the_job(
    tmp_path: Path, png: bytes, s3: FlatS3, status: int, code: str, told: str
) -> None:
    s3.objects = {("bucket", f"{number}.png"): png for number in range(12)}
    s3.refused = dict.fromkeys(s3.objects, (status, code))
    job = Job("s3://bucket", tmp_path / "results")
    with pytest.raises((JobError, AccessError), match=told):
        job.run()
    assert not job.results.list("draws")


def test_a_folder_that_is_refused_before_any_other_is_read_is_rows_of_its_own(
    tmp_path: Path, png: bytes, s3: FlatS3
) -> None:
    s3.objects = {("bucket", f"a/{number:02}.png"): png for number in range(20)}
    s3.refused = dict.fromkeys(s3.objects, (403, "AccessDenied"))
    s3.objects |= {("bucket", f"b/{number}.png"): png for number in range(3)}
    assert len(Job("s3://bucket", tmp_path / "results").run()) == 20


def test_a_bucket_that_is_gone_is_no_missing_image(tmp_path: Path, png: bytes, s3: FlatS3) -> None:
    s3.objects = {("bucket", f"{number}.png"): png for number in range(4)}
    job = Job("s3://bucket", tmp_path / "results")
    archive = open_archive(job.archive)
    chunks = plan_archive(archive, LIMITS)
    s3.refused = {("bucket", "*"): (404, "NoSuchBucket")}
    with pytest.raises(MissingError, match="check the bucket"):
        job._do(archive.store, chunks, "archive")


def test_a_folder_that_is_unmounted_is_no_missing_image(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(png)
    job = Job(str(tmp_path / "photos"), tmp_path / "results")
    archive = open_archive(job.archive)
    chunks = plan_archive(archive, LIMITS)
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises(JobError, match="is out"):
        job._do(archive.store, chunks, "archive")


def test_a_shard_that_can_not_be_read_is_a_row_until_it_can(tmp_path: Path, png: bytes, s3: FlatS3) -> None:
    s3.objects = {("b", f"x-{n}.tar"): tar(png, f"{n}a.png", f"{n}b.png", f"{n}c.png") for n in range(3)}
    s3.refused["b", "x-1.tar"] = (403, "InvalidObjectState")
    job = Job("s3://b/x-{0..2}.tar", tmp_path / "results")
    frozen = {"x-1.tar #all": ("read", "S3 InvalidObjectState")}
    assert job.run() == frozen
    assert job.account().with_draws == 6
    assert job.run(retry=True) == frozen
    s3.refused = {}
    assert job.run(retry=True) == {}
    assert (job.account().with_draws, job.account().filtered) == (9, 1)


def test_a_shard_of_a_dataset_that_can_not_be_read_is_a_row_for_each_of_its_samples(
    tmp_path: Path, png: bytes, s3: FlatS3
) -> None:
    from jobs.datasets import index

    s3.objects = {("b", f"x-{n}.tar"): tar(png, f"{n}a.png", f"{n}b.png") for n in range(3)}
    index.run("s3://b")
    s3.refused["b", "x-1.tar"] = (403, "InvalidObjectState")
    job = Job("s3://b", tmp_path / "results")
    assert set(job.run().values()) == {("read", "S3 InvalidObjectState")}
    assert (job.account().with_draws, job.account().errors) == (4, 2)
    s3.refused = {}
    assert job.run(retry=True) == {}


def test_a_parquet_file_that_can_not_be_read_is_a_row_until_it_can(tmp_path: Path, png: bytes, s3: FlatS3) -> None:
    for number in range(3):
        sink = io.BytesIO()
        pq.write_table(pa.table({"image": [png] * 2}), sink)
        s3.objects["b", f"{number}.parquet"] = sink.getvalue()
    s3.refused["b", "1.parquet"] = (403, "InvalidObjectState")
    job = Job("s3://b", tmp_path / "results")
    assert job.run() == {"1.parquet #all": ("read", "S3 InvalidObjectState")}
    s3.refused = {}
    assert job.run(retry=True) == {}
    assert job.account().with_draws == 6


def test_names_travel_unchanged_from_a_bucket_to_the_results(tmp_path: Path, png: bytes, s3: FlatS3) -> None:
    names = ["a//b.png", "a/../c.png", "d e.png", "100%.png", "a%20b.png", "q?x=1.png", "h#1.png", "p+q.png", "/l.png"]
    names += ["e\u0301.png", "\u00e9.png", "a?versionId=3.png", "s3:::x.png", "..png", "a/./z.png"]
    s3.objects = {("bucket", f"in/{name}"): png for name in names}
    job = Job("s3://bucket/in", tmp_path / "results")
    assert job.run() == {}
    assert job.account().with_draws == len([name for name in names if name != "..png"])
    uris = [f"s3://bucket/in/{name}" for name in names]
    assert Job(table(tmp_path / "t", uris), tmp_path / "more").run() == {}


def test_file_names_that_are_no_utf8_are_done_and_found_again(tmp_path: Path, png: bytes) -> None:
    raw = [b"caf\xe9.png", b"\xff\xfe.png", b"lit\\udce9.png", b"back\\slash.png", "é.png".encode()]
    folder = tmp_path / os.fsdecode(b"dir\xe9")
    folder.mkdir()
    for name in raw:
        (folder / os.fsdecode(name)).write_bytes(png)
    (folder / os.fsdecode(b"bad\xe9.png")).write_bytes(b"no image")
    archive = str(folder)
    job = Job(archive, tmp_path / "results")
    errors = job.run()
    assert list(errors) == [r"bad\udce9.png bad\udce9"]
    assert job.account().with_draws == len(raw)
    store = open_store(archive)
    assert store.uri.endswith(r"dir\udce9")
    assert open_store(store.uri).read(r"caf\udce9.png") == png
    assert {entry.name for entry in store.list()} == {
        r"caf\udce9.png", r"\udcff\udcfe.png", r"lit\udc5cudce9.png", "back\\slash.png", "é.png", r"bad\udce9.png",
    }  # fmt: skip
