"""What tests share: a local Ray, real S3 servers, real photographs, and the command line.

Nothing starts before a test asks for it. The marks `ray` and `s3` come from the fixtures that a test uses, and nothing
but these fixtures can start Ray: RAY_ADDRESS leads nowhere elsewhere. A test that can't run here skips with the reason
and what would make it run; in CI (CONDGEN_CI=1), which installs all that tests need, such a skip is a failure.
"""

import importlib.util
import io
import logging
import os
import secrets
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scripts import ROOT, load_script

IN_CI = bool(os.environ.get("CONDGEN_CI"))
MAY_SKIP_IN_CI = ("torch sees no GPU here", "Ray interleaves by turns before it has Dataset.mix")
STARTS_RAY = {"ray_cluster", "condgen_process"}
STARTS_S3 = {"s3", "ceph"}
NOWHERE = "127.0.0.1:1"

# The real photographs of the packages that the `demo` extra installs.
PHOTOGRAPHS = {
    "skimage": ["data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg", "data/retina.jpg"],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}


def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed of the random tests, once for all processes of this run."""
    os.environ.setdefault("SOAK_SEED", str(secrets.randbelow(1 << 16)))
    if hasattr(config, "workerinput"):
        os.environ["OMP_NUM_THREADS"] = "1"  # a core for each process


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    seed = os.environ["SOAK_SEED"]
    terminalreporter.write_line(f"seed of the random tests: {seed} (SOAK_SEED={seed} draws the same)")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by its fixtures."""
    callspec = getattr(item, "callspec", None)
    parameters = callspec.params.values() if callspec else ()
    uses = {*getattr(item, "fixturenames", ()), *(value for value in parameters if isinstance(value, str))}
    marks = {mark for mark, starters in (("ray", STARTS_RAY), ("s3", STARTS_S3)) if uses & starters}
    for mark in marks:
        item.add_marker(mark)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what has a command of its own to `make soak` and `make test-infra`, and begin with what takes long.

    That are the files with most tests of Ray; of infra/'s, those whose tests have the longest time limits.
    """
    for mark in ("long", "infra"):
        if mark not in config.option.markexpr:
            config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker(mark)])
            items[:] = [item for item in items if not item.get_closest_marker(mark)]
    weights = Counter(item.path for item in items if item.get_closest_marker("ray"))
    if "infra" in config.option.markexpr:
        limits = ((item.path, item.get_closest_marker("timeout")) for item in items)
        weights = Counter({path: limit.args[0] for path, limit in limits if limit})
    items.sort(key=lambda item: -weights[item.path])  # by files: --dist loadfile hands them out in this order


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure in CI."""
    report = yield
    if IN_CI and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if not any(known in reason for known in MAY_SKIP_IN_CI):
            report.outcome, report.longrepr = "failed", f"{item.nodeid} is not skipped in CI: {reason}"
    return report


@dataclass(frozen=True)
class S3:
    """A running S3 server; `env` is set in this process and so in all that tests start, Ray's workers among them."""

    endpoint: str
    env: Mapping[str, str]
    pid: int = 0

    def uri(self, bucket: str) -> str:
        """The URI of a bucket, which is made where it is missing."""
        filesystem = self.filesystem()
        if not filesystem.exists(bucket):
            filesystem.mkdir(bucket)
        return f"s3://{bucket}"

    def filesystem(self) -> Any:
        """A fresh s3fs client of this server, independent of the code under test."""
        import s3fs

        return s3fs.S3FileSystem(
            key=self.env["AWS_ACCESS_KEY_ID"],
            secret=self.env["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.endpoint,
            skip_instance_cache=True,
            use_listings_cache=False,
        )


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    """The tests' own environment: this checkout first for child processes, no cloud account of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "CONDGEN_"))]:
            patch.delenv(name)
        inherited = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *([inherited] if inherited else [])]))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("RAY_DEDUP_LOGS", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ADDRESS", NOWHERE)
        patch.setenv("NO_COLOR", "1")
        yield


@pytest.fixture(scope="session")
def _s3_server(_environment: None) -> Any:
    """infra/local/s3.py, and the server that it will be: its port and keys are known before it starts.

    Ray's workers inherit the environment that Ray was started with, so the variables are set early and the server
    itself starts only when a test asks for `s3`.
    """
    script = load_script("s3")
    server = script.Server(pid=0, port=script.free_port(), access_key="testkey", secret_key="testsecret123")
    os.environ.update(server.environment())
    return script, server


@pytest.fixture(scope="session")
def s3(_s3_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server (SeaweedFS) on loopback, empty at first."""
    script, server = _s3_server
    try:
        script.find_weed()
    except script.ServerError as error:
        pytest.skip(f"no S3 server: {error}")
    data = tmp_path_factory.mktemp("s3")
    running = script.start(data, server.port, server.access_key, server.secret_key)
    try:
        yield S3(endpoint=running.endpoint, env=running.environment(), pid=running.pid)
    finally:
        script.stop(data, keep=False)


@pytest.fixture(scope="session")
def ceph(_s3_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Ceph's S3 gateway on loopback, empty at first; its environment is set where a test asks for `each_s3`."""
    script = load_script("ceph")
    base, server = _s3_server
    data = tmp_path_factory.mktemp("ceph")
    try:
        script.require_programs()
    except base.ServerError as error:
        pytest.skip(str(error))
    running = script.start(data, 0, server.access_key, server.secret_key)
    try:
        yield S3(endpoint=running.endpoint, env=script.environment(running))
    finally:
        script.stop(data)


@pytest.fixture(params=["s3", "ceph"])
def each_s3(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3:
    """One real S3 server after the other, SeaweedFS and Ceph; the environment of this process is the server's."""
    server: S3 = request.getfixturevalue(request.param)
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture(scope="session")
def ray_cluster(_s3_server: Any) -> Iterator[None]:
    """A local Ray of two CPUs for the whole session; its workers see the tests' environment."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS")  # for its workers, too
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=512 * 2**20,
            log_to_driver=False,
            configure_logging=False,
        )
    try:
        yield
    finally:
        ray.shutdown()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of seven small real color photographs (JPEG, longer side 192 px). Tests only read it."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    for package, names in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            pytest.skip(f"no photographs: {package} is not installed (the demo extra has it; make test does)")
        for name in names:
            with Image.open(Path(spec.submodule_search_locations[0]) / name) as image:
                small = image.convert("RGB")
                small.thumbnail((192, 192))
                small.save(folder / f"{Path(name).stem}.jpg", quality=90)
    return folder


@pytest.fixture(scope="session")
def prometheus_program() -> str:
    """The path of Prometheus: the one on the PATH, or the one that `make test` unpacks."""
    unpacked = ROOT / ".programs" / "usr" / "bin" / "prometheus"
    program = shutil.which("prometheus") or (str(unpacked) if unpacked.exists() else None)
    if program is None:
        pytest.skip("no Prometheus: make test unpacks Debian's where there is apt-get")
    return program


@pytest.fixture(scope="session")
def promtool_program(prometheus_program: str) -> str:
    """The path of promtool, which comes with Prometheus."""
    program = Path(prometheus_program).resolve().with_name("promtool")
    if not program.exists():
        pytest.skip(f"no promtool beside {prometheus_program}")
    return str(program)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium without a window, by Playwright.

    It is a file's own: Playwright keeps an event loop in this thread, in which other tests could not run theirs.
    """
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no Chromium: make programs, as root, installs Debian's")
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make test has it")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"] * (os.geteuid() == 0))
        yield started
        started.close()


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def condgen(ray_cluster: None) -> Callable[..., Finished]:
    """Run `condgen` with these arguments in this process, on the session's Ray."""
    from jobs.cli.app import _run

    def run(*arguments: str | Path, cwd: Path | None = None, **env: str) -> Finished:
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            warnings.catch_warnings(),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            patch.setattr(logging.root, "handlers", [])
            for name, value in env.items():
                patch.setenv(name, value)
            if cwd is not None:
                patch.chdir(cwd)
            code = _run([str(argument) for argument in arguments])
        return Finished(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def condgen_process(_s3_server: Any) -> Callable[..., subprocess.Popen[str]]:
    """Start `condgen` with these arguments in a process of its own, with a Ray of its own: some ten seconds.

    With `RAY_ADDRESS` it joins the session's Ray, in half of them.

    For what only a process shows: signals, the console script, the folder that it starts in.
    """

    def start(
        *arguments: str | Path, program: tuple[str, ...] = (), cwd: Path | None = None, **env: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*(program or (sys.executable, "-m", "jobs")), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | env,
            start_new_session=True,
        )

    return start
