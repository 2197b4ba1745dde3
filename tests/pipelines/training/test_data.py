"""Training on datasets whose pictures have other names, or that have several; and the plan that it makes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from samples import flat, paired_dataset, single_dataset, tar_of

from condgen.errors import ConfigError, DatasetError
from condgen.presets import PRESETS, Preset
from jobs.cli import app as cli
from jobs.cli.config import resolve
from jobs.datasets import index
from pipelines.datasets.chunk import ChunkLimits
from pipelines.datasets.chunking import chunk_table
from pipelines.datasets.opening import open_dataset
from pipelines.datasets.option_texts import read_size
from pipelines.streaming.stream import load_block
from pipelines.training.data import check_trainable
from pipelines.training.engine import prepare
from pipelines.training.first_model import build_model
from pipelines.training.job import TrainJob
from pipelines.training.options import TrainOptions

SETTINGS = ["data.size_px=16", "data.lanes=2", "train.batch_size=4", "data.flip=false", "model.width=8"]


def prepared(data: Path | str, **names: str) -> TrainJob:
    preset: Preset = resolve("color-classifier-small", assignments=SETTINGS)
    return prepare(TrainOptions(preset=preset, data=str(data), out="nowhere", member_names=names))[0]


def trained_on(job: TrainJob) -> tuple[list[int], list[int]]:
    """Each sample's red, and its weight, as training gets them."""
    block = job.plan.chunks.append_column("epoch", pa.array([0] * job.plan.chunks.num_rows))
    reds: list[int] = []
    weights: list[int] = []
    for row in load_block(block, plan=job.plan).to_pylist():
        rgb = np.frombuffer(row["rgb"], np.uint8).reshape(-1, 16, 16, 3)
        reds += rgb[:, 8, 8, 0].tolist()
        weights += row["weight"]
    return reds, weights


def test_a_model_that_does_not_fit_its_task_is_refused_and_every_preset_fits() -> None:
    for preset in PRESETS.values():
        check_trainable(preset)
    for name, assignments in (
        ("regression-small", ["model.target_channels=3"]),
        ("regression-small", ["data.task=pairs"]),
        ("regression-small", ["data.task=domains", "model.condition_channels=3", "model.target_channels=3"]),
        ("cyclegan-small", ["data.task=pairs"]),
        ("diffusion-small", ["data.task=pictures", "model.condition_channels=0", "model.target_channels=3"]),
    ):
        with pytest.raises(ConfigError, match=r"data\.task"):
            check_trainable(resolve(name, assignments=assignments))


@pytest.fixture
def photos_and_masks(tmp_path: Path) -> Path:
    """Samples with a photograph (red: its number) and a mask (red: 200)."""
    place = tmp_path / "shards"
    place.mkdir()
    kinds = ((number, kind) for number in range(20) for kind in ("mask", "photo"))
    members = ((f"{number:03d}.{kind}.png", flat(200 if kind == "mask" else number)) for number, kind in kinds)
    (place / "train-000000.tar").write_bytes(tar_of(members))
    return place


def test_the_image_is_chosen_by_its_name(photos_and_masks: Path) -> None:
    assert trained_on(prepared(photos_and_masks)) == ([0] * 20, [0] * 20)  # which of the two is not known
    assert trained_on(prepared(photos_and_masks, image="photo")) == (list(range(20)), [1] * 20)
    assert trained_on(prepared(photos_and_masks, image="mask")) == ([200] * 20, [1] * 20)
    build_model(prepared(photos_and_masks, image="photo"))  # counts the colours of the pictures that are named


def test_names_of_an_index_hold_and_can_be_named_again(photos_and_masks: Path, tmp_path: Path) -> None:
    index.run(str(photos_and_masks), out=str(tmp_path / "index"), member_names={"image": "photo"})
    assert trained_on(prepared(tmp_path / "index")) == (list(range(20)), [1] * 20)
    pairs = {"input": "mask", "target": "photo"}
    index.run(str(photos_and_masks), out=str(tmp_path / "pairs"), member_names=pairs)
    assert trained_on(prepared(tmp_path / "pairs", image="target")) == (list(range(20)), [1] * 20)
    with pytest.raises(DatasetError, match="--member image=target"):
        prepared(tmp_path / "pairs")


def test_pairs_are_refused_until_a_image_is_named(tmp_path: Path) -> None:
    uri = paired_dataset(tmp_path / "pairs", 6, size=(20, 20))
    with pytest.raises(DatasetError, match=r"holds pairs.*--member image=target"):
        prepared(uri)
    assert trained_on(prepared(uri, image="target"))[1] == [1] * 6


def test_a_run_is_of_one_image_of_its_samples(photos_and_masks: Path) -> None:
    digests = {prepared(photos_and_masks, **names).plan.digest for names in ({}, {"image": "photo"}, {"image": "mask"})}
    assert len(digests) == 3


def test_the_command_has_the_option_that_index_has(
    photos_and_masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--preset", "regression-small", "--data", str(photos_and_masks), "--out", str(tmp_path / "run")]
    command += [*(word for name in SETTINGS for word in ("--set", name)), "--dry-run", "--member"]
    assert cli._run([*command, "image=photo"]) == 0
    assert "20 samples" in capsys.readouterr().out
    assert cli._run([*command, "photo"]) == ConfigError.exit_code
    assert "--member" in capsys.readouterr().err


def test_the_plan_is_the_one_that_runs_make(tmp_path: Path) -> None:
    uri = single_dataset(tmp_path / "dataset", 100, per_shard=30)
    job = prepared(uri)
    assert job.plan.chunks == chunk_table(open_dataset(uri, checksums=True).table("train"), ChunkLimits(samples=16))
    assert job.plan.members == (None,)
    assert job.plan.chunks["samples"].to_pylist() == [16, 14] * 3 + [10]


def test_a_cache_serves_the_next_epoch_without_the_store_and_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = single_dataset(tmp_path / "dataset", 30, per_shard=10)
    monkeypatch.chdir(tmp_path)
    preset: Preset = resolve("color-classifier-small", assignments=SETTINGS)
    options = TrainOptions(preset=preset, data=uri, out="nowhere", cache="cache", cache_bytes=1 << 20)
    job, config = prepare(options)
    monkeypatch.chdir("/")
    first = trained_on(job)
    assert first == (list(range(30)), [1] * 30)
    assert len(list((tmp_path / "cache").glob("*.chunk"))) == job.plan.chunks.num_rows
    for tar in (tmp_path / "dataset").glob("*.tar"):
        tar.unlink()
    assert trained_on(job) == first
    assert "cache" not in config  # where chunks are kept decides nothing of a run


@pytest.mark.parametrize(("text", "size"), [("50G", 50 << 30), ("500m", 500 << 20), ("1000", 1000), ("2TiB", 2 << 40)])
def test_sizes_are_written_as_people_write_them(text: str, size: int) -> None:
    assert read_size("--cache-size", text) == size


@pytest.mark.parametrize("text", ["", "0", "G", "-1G", "5X", "1.5G"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--cache-size"):
        read_size("--cache-size", text)
