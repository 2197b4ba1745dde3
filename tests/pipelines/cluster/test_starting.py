"""Ray's start: where it can't, the user is told why in a line; the terminal hears nothing of Ray's own."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from condgen.errors import ConfigError, JobError
from pipelines.cluster.imports import ROOT
from pipelines.cluster.starting import ray_cluster


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster is there, and none is ended."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def fails(message: str) -> Callable[..., None]:
    """A `ray.init` that raises."""

    def init(**_: object) -> None:
        raise Exception(message)

    return init


def test_a_ray_that_does_not_start_in_time_is_the_machines_fault_and_other_errors_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "init", fails("The current node timed out during startup. This could happen because"))
    with pytest.raises(JobError, match="the machine is busy"), ray_cluster():
        pass
    monkeypatch.setattr(ray, "init", fails("another"))
    with pytest.raises(Exception, match="another"), ray_cluster():
        pass


def test_an_address_that_is_none_is_a_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "my-cluster")
    with pytest.raises(ConfigError, match="RAY_ADDRESS: got 'my-cluster', allowed: HOST:PORT"), ray_cluster():
        pass


def test_what_the_machine_refuses_is_not_told_as_a_cluster_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = f"/tmp/{'x' * 75}"
    socket_path = f"{folder}/ray/session_2026-11-29_14-00-00_000000_4321/sockets/plasma_store"
    said = "validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: "

    def init(error: OSError) -> Callable[..., None]:
        def fail(**_: object) -> None:
            raise error

        return fail

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(ray, "init", init(OSError(said + socket_path)))
    with pytest.raises(ConfigError, match=r"TMPDIR: got '/tmp/xxx.*at most \d+ bytes") as caught, ray_cluster():
        pass
    most = int(str(caught.value).partition("at most ")[2].split()[0])
    assert len(socket_path) - len(folder) + most <= 107 - len("99")  # a process number of two digits more
    assert "RAY_ADDRESS" not in str(caught.value)
    assert "token" not in str(caught.value)
    monkeypatch.setenv("RAY_TMPDIR", "/opt/ours")
    for error in (PermissionError(13, "Permission denied", "/opt/ours/ray"), OSError(28, "No space left on device")):
        monkeypatch.setattr(ray, "init", init(error))
        with pytest.raises(JobError, match=r"/opt/ours/ray \(RAY_TMPDIR.*(denied|No space left)"), ray_cluster():
            pass
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr("pipelines.cluster.starting._reach", lambda _: init(ConnectionRefusedError())())
    with pytest.raises(JobError, match=r"no Ray cluster answers at RAY_ADDRESS=10\.0\.0\.1:6379"), ray_cluster():
        pass


def test_an_empty_address_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options["address"]))
    monkeypatch.setenv("RAY_ADDRESS", "")
    with ray_cluster():
        pass
    assert asked == ["local"]


def test_ray_starts_with_our_packages_first_whatever_folder_the_user_is_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ray hands the driver's working directory on to its workers as the head of their import path."""
    started_in: list[Path] = []
    monkeypatch.setattr(ray, "init", lambda **_: started_in.append(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    with ray_cluster():
        assert Path.cwd() == tmp_path
    assert started_in == [ROOT]


def test_what_ray_writes_while_it_starts_and_ends_is_not_heard_and_what_we_write_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def noise(*_: object, **__: object) -> None:
        os.write(1, b"ray")
        os.write(2, b"ray")

    monkeypatch.setattr(ray, "init", noise)
    monkeypatch.setattr(ray, "shutdown", noise)
    with ray_cluster():
        print("ours")
    print("ours", file=sys.stderr)
    assert capfd.readouterr() == ("ours\n", "ours\n")


def test_the_flag_that_quiets_the_lines_of_lost_nodes_is_still_rays() -> None:
    """It is private and has no public counterpart: a Ray that renames it must be noticed here, not by users."""
    from ray._private import worker

    assert isinstance(worker._worker_logs_enabled, bool)


@pytest.mark.parametrize("verbose", [False, True])
def test_a_local_ray_starts_only_what_is_used(monkeypatch: pytest.MonkeyPatch, verbose: bool) -> None:
    """These names are private, too: a Ray that has others would start all of it again, and nobody would see it."""
    from ray._private import node, services

    def starters() -> list[object]:
        return [services.start_api_server, node.Node.start_monitor, node.Node.start_log_monitor]

    before, meanwhile = starters(), list[object]()
    monkeypatch.setattr(ray, "init", lambda **_: meanwhile.extend(starters()))
    with ray_cluster(verbose=verbose):
        assert starters() == before
    kept = [one is other for one, other in zip(before, meanwhile, strict=True)]
    assert kept == [False, False, verbose]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_block_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: None)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), ray_cluster():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before
