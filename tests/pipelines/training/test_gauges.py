"""What a run's driver tells Prometheus; Ray's own part of it is in tests/infra/test_monitoring.py."""

from pathlib import Path

import pytest

from pipelines.storage.store import open_store
from pipelines.training.attempt import _run_name
from pipelines.training.checkpoint_names import CheckpointName, completed_s
from pipelines.training.gauges import ENDED, GAUGES, RunGauges
from pipelines.training.run_folder import MetricRow, RunFolder
from pipelines.training.status import StatusFile

RUN = "s3://bucket/runs/first"
ROW = MetricRow(
    step=50,
    epoch=1,
    images=400,
    seconds=8.0,
    loss=0.75,
    losses={"color": 0.5, "edge": 0.25},
    lr=1e-4,
    images_per_s=50.0,
    undecodable=0,
    waited=[0.1, 0.4],
)


class FakeRay:
    """Holds the values of gauges as Ray's agent would export them: by name, and by the labels' values in order."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.time_s = 1000.0

    def gauge(self, name: str, description: str, tag_keys: tuple[str, ...]) -> "FakeGauge":
        assert description.endswith(".")
        return FakeGauge(self, name, tag_keys)

    def gauges(self) -> RunGauges:
        return RunGauges(RUN, make=self.gauge, clock=lambda: self.time_s)


class FakeGauge:
    def __init__(self, ray: FakeRay, name: str, keys: tuple[str, ...]) -> None:
        self._ray, self._name, self._keys = ray, name.removeprefix("condgen_train_"), keys

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert tuple(tags) == self._keys  # Ray refuses a label that is missing
        assert tags["run"] == RUN
        assert isinstance(value, int | float)
        self._ray.values["/".join([self._name, *list(tags.values())[1:]])] = value


@pytest.fixture
def ray() -> FakeRay:
    return FakeRay()


def test_a_row_of_metrics_sets_step_loss_rate_and_the_longest_wait(ray: FakeRay) -> None:
    gauges = ray.gauges()
    with gauges.exported():
        gauges.add_row(ROW)
        assert ray.values == {
            "step": 50,
            "loss": 0.75,
            "loss_term/color": 0.5,
            "loss_term/edge": 0.25,
            "images_per_second": 50.0,
            "data_wait_ratio": 0.4,
        }


def test_what_was_said_before_ray_was_there_is_exported_when_it_is(ray: FakeRay) -> None:
    gauges = ray.gauges()
    gauges.note_status("waiting")
    gauges.note_status("running")
    assert ray.values == {}
    with gauges.exported():
        assert ray.values == {"status_timestamp_seconds/waiting": 1000.0, "status_timestamp_seconds/running": 1000.0}


def test_without_workers_nothing_is_trained_on_or_waited_for(ray: FakeRay) -> None:
    gauges = ray.gauges()
    with gauges.exported():
        gauges.set_workers(4)
        gauges.add_row(ROW)
        assert (ray.values["workers"], ray.values["images_per_second"]) == (4, 50.0)
        gauges.set_workers(0)
        assert [ray.values[name] for name in ("workers", "images_per_second", "data_wait_ratio")] == [0, 0.0, 0.0]


def test_the_end_of_a_driver_is_newer_than_any_state_of_its_run(ray: FakeRay) -> None:
    gauges = ray.gauges()
    with gauges.exported():
        gauges.note_status("running")
        ray.time_s += 10
    assert ray.values[f"status_timestamp_seconds/{ENDED}"] == 1010.0 > ray.values["status_timestamp_seconds/running"]
    gauges.add_row(ROW)  # Ray is gone
    assert "step" not in ray.values


def test_a_checkpoint_has_the_time_at_which_it_was_completed_and_a_run_without_one_that_of_its_start(
    ray: FakeRay, tmp_path: Path
) -> None:
    gauges = ray.gauges()
    with gauges.exported():
        gauges.begin(step=0, steps=100, workers_wanted=2)
        assert ray.values["checkpoint_timestamp_seconds"] == 1000.0
        gauges.begin(step=7, steps=100, workers_wanted=2, checkpoint_s=900.0)
        assert ray.values["checkpoint_timestamp_seconds"] == 900.0
        ray.time_s += 60
        gauges.note_checkpoint()
        assert ray.values["checkpoint_timestamp_seconds"] == 1060.0
        assert (ray.values["step"], ray.values["steps_wanted"], ray.values["workers_wanted"]) == (7, 100, 2)
    store = open_store(tmp_path)
    name = RunFolder(store).save_checkpoint(7, {"a": b"x"})
    mark = tmp_path / name.file("complete.json")
    assert completed_s(store, name) == pytest.approx(mark.stat().st_mtime, abs=1.0)
    assert completed_s(store, CheckpointName(8)) == 0.0


def test_restarts_count_over_all_drivers_of_a_run(ray: FakeRay) -> None:
    gauges = ray.gauges()
    with gauges.exported():
        gauges.begin_attempt(epoch=1)
        assert ray.values["restarts"] == 0
        gauges.begin_attempt(epoch=5)
        assert ray.values["restarts"] == 4


def test_each_write_of_status_json_is_told_and_none_that_failed(ray: FakeRay, tmp_path: Path) -> None:
    gauges = ray.gauges()
    with gauges.exported():
        StatusFile(RunFolder(open_store(tmp_path / "run")), on_write=gauges.note_status).update(state="running")
        assert ray.values == {"status_timestamp_seconds/running": 1000.0}
        (tmp_path / "taken").write_bytes(b"a file where the folder should be")
        StatusFile(RunFolder(open_store(tmp_path / "taken")), on_write=gauges.note_status).update(state="validating")
        assert ray.values == {"status_timestamp_seconds/running": 1000.0}


def test_every_gauge_has_a_place_in_the_table_of_the_page() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text()
    assert [name for name in GAUGES if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("uri", "name"),
    [("s3://bucket/runs/first", "first"), ("/runs/a b:c/", "a-b-c"), ("s3://bucket/..", "condgen")],
)
def test_ray_train_calls_a_run_by_the_last_part_of_its_uri(uri: str, name: str) -> None:
    assert _run_name(uri) == name
