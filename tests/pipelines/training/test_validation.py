"""Validation: the same images and numbers each time, what every family says of them, and which checkpoints it is of."""

import io
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from samples import paired_dataset, saved, single_dataset, smooth, tar_of

from condgen import checkpoint
from condgen.errors import ConfigError, StorageError
from condgen.families import FAMILIES
from jobs.cli.config import resolve
from pipelines.training.checkpoint_names import CheckpointName
from pipelines.training.engine import prepare
from pipelines.training.first_model import build_model
from pipelines.training.job import TrainJob
from pipelines.training.keeping import Candidate, choose_kept
from pipelines.training.lease import FencedError, Lease, take_lease
from pipelines.training.options import TrainOptions
from pipelines.training.report import describe_data
from pipelines.training.run_folder import RunFolder
from pipelines.training.validation import Validated, read_held_out, validate
from pipelines.training.validation_rows import ValidationRow
from pipelines.training.validator import Validator

SETTINGS = [
    "data.size_px=16",
    "data.lanes=2",
    "train.batch_size=4",
    "train.checkpoint_every_steps=2",
    "train.validate_every_steps=4",
    "train.validation_images=20",
    "train.sheet_every_steps=4",
    "train.sheet_images=3",
]
NAME = CheckpointName(4)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Smooth images in two splits, of which one of `val` can't be decoded."""
    folder = tmp_path_factory.mktemp("data") / "photographs"
    folder.mkdir()
    for split, count in (("train", 8), ("val", 40)):
        members = [(f"{i:04d}.png", saved(smooth(i, (24, 18)))) for i in range(count)]
        if split == "val":
            members[5] = ("0005.png", b"no image")
        for part in range(2):
            half = members[part * count // 2 : (part + 1) * count // 2]
            (folder / f"{split}-{part:06d}.tar").write_bytes(tar_of(half))
    return str(folder)


def prepared(preset: str, data: str, out: Path | str, *more: str, data_b: str | None = None) -> TrainJob:
    settings = resolve(preset, assignments=[*SETTINGS, *more])
    return prepare(TrainOptions(preset=settings, data=data, data_b=data_b, out=str(out)))[0]


def saved_checkpoint(job: TrainJob, name: CheckpointName = NAME) -> None:
    files = {**checkpoint.dump(build_model(job), {}), "optimizer.safetensors": b"x"}
    RunFolder(job.out).save_checkpoint(name.step, files)


def images(job: TrainJob, count: int) -> list[bytes]:
    return [rgb.tobytes() for item in read_held_out(job.held_out, count) for rgb in item.rgb]  # type: ignore[union-attr]


def test_the_sample_is_fixed_and_does_not_depend_on_the_runs_seed(photographs: str, tmp_path: Path) -> None:
    first = images(prepared("regression-small", photographs, tmp_path), 20)
    assert len(first) in (19, 20)  # one can't be decoded
    assert len(set(first)) == len(first)
    assert images(prepared("regression-small", photographs, tmp_path, "train.seed=7"), 20) == first
    assert images(prepared("regression-small", photographs, tmp_path), 5) == first[:5]
    whole = images(prepared("regression-small", photographs, tmp_path, "train.validation_images=99"), 99)
    assert len(whole) == 39
    assert set(first) < set(whole)


def test_images_are_seen_as_models_that_draw_see_them(photographs: str, tmp_path: Path) -> None:
    job = prepared("regression-small", photographs, tmp_path, "data.sample_px=18", "train.validation_images=40")
    middle = {np.asarray(smooth(i, (24, 18)).crop((3, 0, 21, 18))).tobytes() for i in range(40) if i != 5}
    assert set(images(job, 40)) == middle


@pytest.mark.parametrize(
    ("more", "known"),
    [
        (("train.validation_split=test",), "one of val"),
        (("train.validation_split=train",), "one of val"),
    ],
)
def test_a_split_that_is_not_there_or_is_trained_on_is_refused(
    photographs: str, tmp_path: Path, more: tuple[str, ...], known: str
) -> None:
    with pytest.raises(ConfigError, match=rf"train\.validation_split: got '\w+', allowed: of .*, {known}"):
        prepared("regression-small", photographs, tmp_path, *more)


def test_a_dataset_without_splits_can_not_be_held_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.validation_split: .* it has none"):
        prepared("regression-small", single_dataset(tmp_path / "data", 4), tmp_path / "run")


def test_validations_come_with_checkpoints() -> None:
    with pytest.raises(ConfigError, match=r"train\.validate_every_steps: got 3, allowed: 0, or a multiple of .*, 2"):
        resolve("regression-small", assignments=[*SETTINGS, "train.validate_every_steps=3"])


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(name for name, one in FAMILIES.items() if one.task == "colorize"))
def test_every_family_that_colors_has_comparable_rows(family: str, photographs: str, tmp_path: Path) -> None:
    small = next(one.name for one in FAMILIES[family].presets if one.name.endswith("-small"))
    fewer = ["model.steps=2"] if family in ("diffusion", "crf") else []
    job = prepared(small, photographs, tmp_path / "run", "data.size_px=32", *fewer)
    saved_checkpoint(job)
    before = torch.get_rng_state()
    found = validate(job, NAME, measures=True, sheet=True)
    torch.set_rng_state(before)
    assert found.row is not None
    assert (found.row.step, found.row.images, found.row.split) == (4, len(images(job, 20)), "val")
    assert found.row.losses
    assert np.isfinite(found.row.loss)
    assert found.row.loss == pytest.approx(sum(found.row.losses.values()))
    assert 0 < found.row.metrics["auc"] <= 1
    assert found.row.metrics["ab_error"] > 0
    torch.rand(7)  # whatever was drawn before
    again = validate(job, NAME, measures=True, sheet=True)
    assert replace(again.row, seconds=found.row.seconds) == found.row  # type: ignore[type-var]
    assert again.sheet == found.sheet


PAIRS = ["data.task=pairs", "model.condition_channels=3", "model.target_channels=3", "model.depth=3"]
GAN = ["model.width=8", "model.discriminator_width=8", "model.patch_px=16", "train.validation_images=6"]


def split_in_two(folder: Path) -> str:
    """Call the second of a dataset's shards `val`."""
    (folder / "train-000001.tar").rename(folder / "val-000001.tar")
    return str(folder)


def test_pairs_are_measured_by_the_error_of_their_codes(tmp_path: Path) -> None:
    paired_dataset(tmp_path / "pairs", 20)
    job = prepared("pix2pix-small", split_in_two(tmp_path / "pairs"), tmp_path / "run", *PAIRS, *GAN)
    saved_checkpoint(job)
    found = validate(job, NAME, measures=True, sheet=True)
    assert found.row is not None
    assert found.row.images == 6
    assert 0 < found.row.metrics["rgb_error"] < 255
    assert set(found.row.losses) >= {"l1", "g_adversarial", "d_real", "d_fake"}


def test_two_domains_are_measured_by_their_terms_and_shown_both_ways(tmp_path: Path) -> None:
    for name, count in (("a", 14), ("b", 20)):
        single_dataset(tmp_path / name, count)
    a, b = (split_in_two(tmp_path / name) for name in "ab")
    small = ["model.blocks=1", "model.pool_px=16", "model.pool_size=3"]
    job = prepared("cyclegan-small", a, tmp_path / "run", *GAN, *small, data_b=b)
    saved_checkpoint(job)
    found = validate(job, NAME, measures=True, sheet=True)
    assert found.row is not None
    assert (found.row.images, found.row.metrics) == (4, {})  # as many as the smaller domain has
    assert {"cycle_a", "cycle_b", "g_a2b", "d_b_fake"} <= set(found.row.losses)
    assert found.sheet is not None
    with Image.open(io.BytesIO(found.sheet)) as sheet:
        assert sheet.width > 4 * 96
        assert sheet.height > 3 * 96


def test_labels_are_no_images_on_a_sheet(tmp_path: Path) -> None:
    for split in ("train", "val"):
        members = []
        for number in range(4):
            members += [
                (f"{number}.png", saved(smooth(number, (16, 16)))),
                (f"{number}.json", b'{"label": %d}' % number),
            ]
        (tmp_path / f"{split}-000000.tar").write_bytes(tar_of(members))
    small = ["model.width=16", "model.steps=2", "data.label=label"]
    job = prepared("diffusion-digits", str(tmp_path), tmp_path / "run", *small)
    saved_checkpoint(job)
    found = validate(job, NAME, measures=True, sheet=True)
    assert found.row is not None
    assert (found.row.images, found.row.metrics, set(found.row.losses)) == (4, {}, {"denoising"})
    assert found.sheet is not None
    with Image.open(io.BytesIO(found.sheet)) as sheet:
        assert sheet.width // 96 == 5  # the original and four draws


def result(step: int) -> Validated:
    row = ValidationRow(step=step, loss=1 / step, losses={"l2": 1 / step}, images=20, split="val", seconds=0.1)
    return Validated(row=row, sheet=b"png %d" % step)


class SlowRun:
    """Stands for the task of Ray: notes what is validated, and goes on when it is let."""

    def __init__(self, *fails: int) -> None:
        self.calls: list[tuple[int, bool, bool]] = []
        self.may_go_on = threading.Semaphore(0)
        self.has_begun = threading.Semaphore(0)
        self._fails = fails

    def __call__(self, job: TrainJob, name: CheckpointName, measures: bool, sheet: bool) -> Validated:
        self.calls.append((name.step, measures, sheet))
        self.has_begun.release()
        assert self.may_go_on.acquire(timeout=30)
        if name.step in self._fails:
            raise StorageError("s3://bucket", "read", "the bucket is gone")
        return result(name.step)


def validator_of(job: TrainJob, run: SlowRun, said: list[str]) -> Validator:
    return Validator(job, fence=lambda: None, say=said.append, run=run)


@pytest.fixture
def job(photographs: str, tmp_path: Path) -> TrainJob:
    return prepared("regression-small", photographs, tmp_path / "run")


def steps_of(job: TrainJob) -> list[int]:
    return sorted(RunFolder(job.out).read_validation())


def test_one_at_a_time_and_of_those_that_wait_the_latest(job: TrainJob) -> None:
    run, said = SlowRun(), list[str]()
    with validator_of(job, run, said) as validator:
        for step in (2, 4, 6, 8, 12, 14):  # 2, 6 and 14 are not due
            validator.offer(CheckpointName(step))
            if step == 4:
                assert run.has_begun.acquire(timeout=30)
        assert not validator.wait(0.05)
        run.may_go_on.release(2)
        assert validator.wait(30)
        validator.offer(CheckpointName(12))
        validator.offer(CheckpointName(14), is_last=True)
        run.may_go_on.release()
        assert validator.wait(30)
    assert [step for step, _, _ in run.calls] == [4, 12, 14]
    assert steps_of(job) == [4, 12, 14]
    assert job.out.read("sheets/step-00000012.png") == b"png 12"
    assert said == []


def test_a_validation_that_fails_is_a_warning_and_the_next_one_is_made(job: TrainJob) -> None:
    run, said = SlowRun(4), list[str]()
    run.may_go_on.release(2)
    with validator_of(job, run, said) as validator:
        validator.offer(CheckpointName(4))
        assert validator.wait(30)
        validator.offer(CheckpointName(8))
        assert validator.wait(30)
    assert said == [
        "step 4 was not validated (could not read s3://bucket: the bucket is gone): training goes on without"
    ]
    assert steps_of(job) == [8]


def test_a_run_that_goes_on_has_no_row_twice_and_catches_up_on_its_checkpoint(job: TrainJob) -> None:
    folder = RunFolder(job.out)
    for step in (4, 8):
        folder.save_checkpoint(step, {"a": b"x"})
    # A row of a checkpoint that was lost, as the folder of another one shows it.
    folder.write_validation({step: row for step in (4, 12) if (row := result(step).row) is not None})
    folder.write_sheet(8, b"png")
    run = SlowRun()
    run.may_go_on.release(2)
    with validator_of(job, run, []) as validator:
        assert validator.wait(30)
        assert run.calls == [(8, True, False)]
        validator.offer(CheckpointName(8))
        validator.offer(CheckpointName(12))
        assert validator.wait(30)
    assert run.calls[1:] == [(12, True, True)]
    lines = job.out.read("validation.jsonl").decode().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 8, 12]


def test_a_run_that_ends_cancels_what_is_under_way(job: TrainJob) -> None:
    run, said = SlowRun(), list[str]()
    with validator_of(job, run, said) as validator:
        validator.offer(CheckpointName(4))
        assert run.has_begun.acquire(timeout=30)
        validator.offer(CheckpointName(8))
        threading.Timer(0.1, run.may_go_on.release).start()
    assert (steps_of(job), said, len(run.calls)) == ([], [], 1)


def test_a_fenced_drivers_late_rows_do_not_stay_in_a_finished_run(job: TrainJob) -> None:
    first, last = result(4).row, result(8).row
    assert first is not None
    assert last is not None
    with cast("Lease", take_lease(job.out, ttl_s=30.0)) as lease:
        late = RunFolder(job.out, lease.fence)
        now = RunFolder(job.out, lease.advance())
        now.save_checkpoint(8, {"a": b"x"})
        now.finish({}, {"step": 8})
        now.write_validation({8: last})
        job.out.write("validation.jsonl", b"")  # it was stopped between its check and its write
        with pytest.raises(FencedError):
            late.write_validation({4: first})
        assert now.read_validation() == {8: last}


def kept(losses: list[float | None], keep_best: int, awaited: tuple[int, ...] = ()) -> list[int]:
    candidates = [Candidate(CheckpointName(step), loss, step in awaited) for step, loss in enumerate(losses, 1)]
    return sorted(name.step for name in choose_kept(candidates, keep_best))


def test_of_checkpoints_that_are_still_validated_the_oldest_is_kept() -> None:
    assert kept([0.5, 0.1, None, None, 0.4, 0.3], 1) == [2, 5, 6]
    assert kept([0.5, 0.1, None, None, 0.4, 0.3], 1, awaited=(3, 4, 6)) == [2, 3, 5, 6]
    assert kept([0.5, 0.1, None, None, 0.4, 0.3], 0, awaited=(3, 4, 6)) == [5, 6]
    assert kept([0.1], 3) == [1]
    assert kept([float("nan"), 0.4, None, None], 1) == [2, 3, 4]


def test_a_line_of_another_form_is_left_out_and_training_goes_on(job: TrainJob) -> None:
    folder = RunFolder(job.out)
    row = result(4).row
    assert row is not None
    folder.write_validation({4: row})
    job.out.write("validation.jsonl", job.out.read("validation.jsonl") + b'{"step": 8, "los')
    assert folder.read_validation() == {4: row}
    assert folder.read_validation(3) == {}


def test_a_dry_run_tells_what_is_held_out(job: TrainJob) -> None:
    assert describe_data(job)["validation"] == "20 images of val every 4 steps, sheets of 3 every 4"


def test_the_best_checkpoints_are_those_of_the_validation(job: TrainJob) -> None:
    folder = RunFolder(job.out)
    by_step = {2: 0.3, 4: 0.1, 6: 0.2}
    rows = {step: replace(row, loss=loss) for step, loss in by_step.items() if (row := result(step).row) is not None}
    folder.write_validation(rows)
    for step in range(1, 11):
        folder.save_checkpoint(step, {"a": b"x"}, loss=1 / step, keep_best=2, validate_every=2)
    names = {entry.name.split("/")[1] for entry in job.out.list("checkpoints")}
    assert names == {f"step-{step:08d}" for step in (4, 6, 8, 9, 10)}  # 8 is still to be validated
