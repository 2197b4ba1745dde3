"""Training on pairs and on two domains by Ray Train, with a cut, and the archive translated by the model."""

from pathlib import Path

from samples import paired_dataset, single_dataset

from condgen.options import SampleOptions
from jobs.cli.config import resolve
from jobs.datasets import index
from pipelines.batch.job import BatchJob, run_batch
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import open_store
from pipelines.training import TrainOptions, train

SIZE = ["data.size_px=16", "data.lanes=2", "train.batch_size=4", "train.checkpoint_every_steps=2", "model.width=8"]
PAIRS = ["data.task=pairs", "model.condition_channels=3", "model.target_channels=3", "model.depth=3"]
GAN = ["model.discriminator_width=8", "model.patch_px=16"]


def trained(preset: str, data: Path, out: Path, *assignments: str, data_b: str | None = None) -> Path:
    settings = resolve(preset, assignments=[*SIZE, *GAN, *assignments])
    train(TrainOptions(preset=settings, data=str(data), out=str(out), data_b=data_b))
    return out


def weights(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


def translated(archive: Path, results: Path, model: Path, direction: str = "a2b") -> int:
    settings = BatchSettings(kind="translate", draws=1, batch_size=4, sample=SampleOptions(direction=direction))
    report = run_batch(BatchJob(archive=str(archive), results=str(results), model=str(model), settings=settings))
    assert report.errors == 0
    return report.with_draws


def indexed(folder: str) -> Path:
    index.run(folder)
    return Path(folder)


def test_pairs_train_a_model_that_translates(ray_cluster: None, tmp_path: Path) -> None:
    data = indexed(paired_dataset(tmp_path / "pairs", 12))
    run = trained("pix2pix-small", data, tmp_path / "run", *PAIRS, "train.steps=4")
    archive = indexed(single_dataset(tmp_path / "archive", 5))
    assert translated(archive, tmp_path / "results", run) == 5


def test_two_domains_go_on_where_they_were_cut(ray_cluster: None, tmp_path: Path) -> None:
    a, b = indexed(single_dataset(tmp_path / "a", 12)), indexed(single_dataset(tmp_path / "b", 20))
    small = ("model.blocks=1", "model.pool_px=16", "model.pool_size=3", "train.steps=6")
    whole = trained("cyclegan-small", a, tmp_path / "whole", *small, data_b=str(b))
    cut = tmp_path / "cut"
    store = open_store(str(whole))
    # As a run that was killed after its second checkpoint left it.
    for entry in store.list():
        if entry.name == "config.json" or "00000002" in entry.name or "00000004" in entry.name:
            open_store(str(cut)).write(entry.name, store.read(entry.name))
    again = trained("cyclegan-small", a, cut, *small, data_b=str(b))
    assert weights(again) == weights(whole)
    assert translated(a, tmp_path / "results", again, "b2a") == 12
