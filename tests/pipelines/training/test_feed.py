"""What training is fed for each task: the pictures, labels and texts of the right samples, in the model's ranges."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from samples import paired_dataset, single_dataset

from condgen.base import Batch
from condgen.color.lab import rgb_to_lab
from condgen.errors import CheckpointError, ConfigError, DatasetError
from condgen.nn.tokens import tokenize
from jobs.cli.config import resolve
from jobs.datasets import index
from pipelines.streaming.epoch_order import StreamPosition
from pipelines.streaming.stream import StreamBatch, load_block
from pipelines.streaming.unpaired import UnpairedBatch, UnpairedPosition
from pipelines.training.engine import prepare
from pipelines.training.feed import OneDataset, TwoDomains, image_tensor, make_feed
from pipelines.training.job import TrainJob
from pipelines.training.options import TrainOptions

SIZE = ["data.size_px=16", "data.lanes=2", "train.batch_size=4", "data.flip=false", "data.crop_scale_min=1.0"]
PAIRS = ["data.task=pairs", "model.condition_channels=3", "model.target_channels=3", "model.width=8"]
CPU = torch.device("cpu")


def prepared(preset: str, data: Path, *assignments: str, **options: Any) -> TrainJob:
    settings = resolve(preset, assignments=[*SIZE, *assignments])
    return prepare(TrainOptions(preset=settings, data=str(data), out="nowhere", **options))[0]


def first_chunk(job: TrainJob, domain: str = "a") -> StreamBatch:
    """The first chunk as if it were a batch."""
    plan = job.plans[domain]
    [row] = load_block(plan.chunks.slice(0, 1).append_column("epoch", pa.array([0])), plan=plan).to_pylist()
    weight = np.frombuffer(row["weight"], np.uint8).astype(np.float32)
    return StreamBatch(
        rgb=np.frombuffer(row["rgb"], np.uint8).reshape(-1, *plan.image_shape).copy(),
        labels=np.frombuffer(row["labels"], np.int64).reshape(len(weight), -1).copy(),
        weight=weight,
        faults=len(row["faults"]),
        after=StreamPosition(epoch=0, batch=1),
    )


def fed(job: TrainJob) -> Batch:
    return make_feed(job.preset, job.plans).batch(first_chunk(job), CPU)


def indexed(folder: Path) -> Path:
    index.run(str(folder))
    return folder


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """Flat pictures whose red is their number, with `number` and the caption `number N`."""
    return indexed(Path(single_dataset(tmp_path / "numbers", 20)))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Gradients, and the same with red and green inverted."""
    return indexed(Path(paired_dataset(tmp_path / "pairs", 12)))


def test_pairs_are_input_and_target_cropped_alike(pairs: Path) -> None:
    batch = fed(prepared("pix2pix-small", pairs, *PAIRS))
    x = batch.condition.image
    assert x.shape == batch.target.shape == (10, 3, 16, 16)
    assert float(batch.weight.sum()) == 10
    assert torch.allclose(x[:, :2], -batch.target[:, :2], atol=0.02)
    assert torch.allclose(x[:, 2], batch.target[:, 2], atol=0.02)


def test_a_model_of_one_channel_is_given_the_luma(pairs: Path) -> None:
    job = prepared("pix2pix-small", pairs, *PAIRS[:1], "model.condition_channels=1", "model.target_channels=3")
    x = fed(job).condition.image
    whole = fed(prepared("pix2pix-small", pairs, *PAIRS)).condition.image
    assert torch.allclose(x[:, 0], 0.299 * whole[:, 0] + 0.587 * whole[:, 1] + 0.114 * whole[:, 2], atol=1e-5)
    assert image_tensor(np.full((1, 2, 2, 3), 255, np.uint8), 1, CPU).tolist() == [[[[pytest.approx(1.0)] * 2] * 2]]


def test_an_aged_sample_is_seen_as_old_material_and_colored_as_it_was(pairs: Path) -> None:
    settings = ("color-classifier-small", pairs, "train.seed=1")
    options: dict[str, Any] = {"member_names": {"image": "input"}}
    plain_job, aged_job = prepared(*settings, **options), prepared(*settings, "data.aging_share=0.5", **options)
    plain, item = fed(plain_job), first_chunk(aged_job)
    batch = make_feed(aged_job.preset, aged_job.plans).batch(item, CPU)
    assert torch.equal(batch.target, plain.target)
    aged = (torch.from_numpy(item.rgb[..., 3]) > 0).flatten(1).any(dim=1)
    assert 0 < int(aged.sum()) < len(aged)
    assert torch.equal(batch.condition.image[~aged], plain.condition.image[~aged])  # its exact L
    grey = torch.from_numpy(item.rgb[..., 3:]).permute(0, 3, 1, 2).float().expand(-1, 3, -1, -1) / 255
    expected = rgb_to_lab(grey)[:, :1] / 50 - 1
    assert torch.allclose(batch.condition.image[aged], expected[aged], atol=1e-5)
    assert (batch.condition.image[aged] - plain.condition.image[aged]).abs().max() > 0.05


def test_pairs_are_asked_for_where_there_are_none(numbers: Path) -> None:
    with pytest.raises(DatasetError, match="--member input="):
        prepared("pix2pix-small", numbers, *PAIRS)


def test_labels_and_captions_are_those_of_the_image(numbers: Path) -> None:
    job = prepared(
        "diffusion-small",
        numbers,
        *("data.task=pictures", "data.label=number", "data.caption=caption", "model.num_labels=20"),
        *("model.text_vocabulary=50", "model.text_length=4", "model.condition_channels=0", "model.target_channels=3"),
    )
    batch = fed(job)
    assert batch.condition.image is None
    found = ((batch.target[:, 0, 0, 0] + 1) * 127.5).round().long()
    assert torch.equal(batch.condition.label, found)
    expected = [tokenize(f"number {n}", vocabulary=50, length=4) for n in found.tolist()]
    assert np.array_equal(batch.condition.text.numpy(), np.stack(expected))


def test_a_sample_without_its_label_is_left_out_and_counted(numbers: Path) -> None:
    given = ("data.label=caption", "model.num_labels=20")
    item = first_chunk(prepared("diffusion-small", numbers, *given))
    assert item.faults == len(item.weight)
    assert item.weight.sum() == 0


def test_a_label_that_the_model_does_not_take_is_refused(numbers: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.label.*num_labels"):
        prepared("color-classifier-small", numbers, "data.label=number")
    with pytest.raises(ConfigError, match=r"data.caption.*text_vocabulary"):
        prepared("diffusion-small", numbers, "data.caption=caption")


def test_two_domains_have_orders_of_their_own(numbers: Path, tmp_path: Path) -> None:
    other = indexed(Path(single_dataset(tmp_path / "other", 30)))
    job = prepared("cyclegan-small", numbers, data_b=str(other))
    feed = make_feed(job.preset, job.plans)
    assert isinstance(feed, TwoDomains)
    assert job.plans["a"].order.seed != job.plans["b"].order.seed
    a, b = (first_chunk(job, name) for name in ("a", "b"))
    a.weight[0] = b.weight[1] = 0
    batch = feed.batch(UnpairedBatch(a=a, b=b, after=UnpairedPosition()), CPU)
    assert batch.weight.tolist() == [0, 0, *[1] * (len(a.weight) - 2)]
    assert batch.condition.image.shape == batch.target.shape == (len(a.weight), 3, 16, 16)
    position = UnpairedPosition(a=StreamPosition(epoch=2, batch=1), b=StreamPosition(epoch=1, batch=2))
    assert feed.position(feed.state_dict(position)) == position
    assert (position.epoch, position.batch) == (2, 1)
    alone = OneDataset(job.plans["a"], "color", (1, 2))
    with pytest.raises(CheckpointError):
        feed.position(alone.state_dict(StreamPosition()))


@pytest.mark.parametrize(
    ("preset", "data_b", "match"), [("cyclegan-small", None, "second domain"), ("cvae-small", "other", "not domains")]
)
def test_the_second_dataset_goes_with_two_domains(numbers: Path, preset: str, data_b: str | None, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        prepared(preset, numbers, data_b=data_b)
