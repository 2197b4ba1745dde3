"""The training loop without Ray: what it learns, what it counts, and when it ends."""

import copy
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.color.lab import denormalize_ab, denormalize_l, lab_to_rgb
from condgen.errors import DatasetError, JobError
from condgen.noise import NoiseSource
from condgen.presets import TrainConfig
from pipelines.datasets.chunk import CHUNK_SCHEMA
from pipelines.storage.store import open_store
from pipelines.streaming.augmentation import Augmentation
from pipelines.streaming.epoch_order import OrderConfig, StreamPosition
from pipelines.streaming.stream import StreamBatch, StreamConfig
from pipelines.training.feed import OneDataset
from pipelines.training.loop import Alone, Loop, state_from_json
from pipelines.training.requests import Request
from pipelines.training.run_folder import MetricRow

CONFIG = TrainConfig(
    steps=30,
    batch_size=4,
    learning_rate=0.05,
    warmup_steps=2,
    ema_decay=0.9,
    log_every_steps=10,
    checkpoint_every_steps=15,
)

PLAN = StreamConfig(
    store=open_store("nowhere"),
    chunks=CHUNK_SCHEMA.empty_table(),
    digest="",
    order=OrderConfig(seed=0, lanes=1, window_chunks=1, batch_size=4),
    augmentation=Augmentation(size_px=4),
)
FEED = OneDataset(PLAN, "color", (1, 2))


def loop_of(model: ConditionalModel, config: TrainConfig) -> Loop:
    return Loop(model, config, to_batch=FEED.batch)


@dataclass(frozen=True)
class FakeConfig:
    """Nothing to configure."""


class FakeModel(ConditionalModel):
    """Predicts one mean colour; as cheap as a model can be. Its dropout draws from torch's generator."""

    family = "fake"
    is_stochastic = False

    def __init__(self, config: FakeConfig) -> None:
        super().__init__(config)
        self.mean = nn.Parameter(torch.zeros(2))
        self.register_buffer("steps_seen", torch.zeros(()))

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:
        self.steps_seen += 1
        noise = 0.01 * torch.randn(2)
        error = (batch.target.mean(dim=(2, 3)) - self.mean - noise).square().sum(dim=1)
        return {"l2": (batch.weight * error).sum() / batch.weight.sum().clamp(min=1e-9)}

    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        raise NotImplementedError


class Silent(FakeModel):
    """Without noise."""

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:
        error = (batch.target.mean(dim=(2, 3)) - self.mean).square().sum(dim=1)
        return {"l2": (batch.weight * error).sum() / batch.weight.sum().clamp(min=1e-9)}


class FakeGan(FakeModel):
    """Two phases; each one's loss depends on both parameters, and only its own may move."""

    def __init__(self, config: FakeConfig) -> None:
        super().__init__(config)
        self.critic = nn.Parameter(torch.ones(2))

    @property
    def phases(self) -> Mapping[str, Sequence[nn.Parameter]]:
        return {"generator": [self.mean], "critic": [self.critic]}

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:
        value = (self.mean * self.critic).sum()
        return {phase: value if phase == "generator" else (value - 1).square()}


def item(number: int, *, faults: int = 0, epoch_batches: int = 5) -> StreamBatch:
    rng = np.random.default_rng(number)
    epoch, batch = divmod(number + 1, epoch_batches)
    weight = np.ones(4, dtype=np.float32)
    weight[4 - faults :] = 0
    rgb = rng.integers(150, 250, (4, 4, 4, 3), dtype=np.uint8)
    rgb[..., 2] = 20  # yellow: b is positive
    return StreamBatch(
        rgb=rgb,
        labels=np.zeros((len(rgb), 0), np.int64),
        weight=weight,
        faults=faults,
        after=StreamPosition(epoch=epoch, batch=batch),
    )


def items(start: int = 0, **options: Any) -> Iterator[StreamBatch]:
    return (item(number, **options) for number in itertools.count(start))


def train(loop: Loop, stream: Iterator[StreamBatch | None], **options: Any) -> tuple[str, list[MetricRow], list[int]]:
    rows: list[MetricRow] = []
    checkpoints: list[int] = []
    options.setdefault("on_checkpoint", lambda loop: checkpoints.append(loop.state.step))
    reason = loop.run(stream, on_row=rows.append, **options)
    return reason, rows, checkpoints


def test_a_run_learns_and_says_how() -> None:
    loop = loop_of(FakeModel(FakeConfig()), CONFIG)
    reason, rows, checkpoints = train(loop, items())
    assert reason == "steps"
    assert [row.step for row in rows] == [10, 20, 30]
    assert checkpoints == [15]  # the last one is the caller's, whatever ended the run
    assert rows[-1].loss < rows[0].loss / 2
    assert rows[-1].images == 120
    assert rows[-1].losses == {"l2": rows[-1].loss}
    assert [row.epoch for row in rows] == [1, 3, 5]
    assert loop.model.mean[1] > 0.3


def test_what_is_resumed_ends_like_what_was_never_cut() -> None:
    whole = loop_of(FakeModel(FakeConfig()), CONFIG)
    _, rows, _ = train(whole, items())
    saved: dict[str, Any] = {}

    def save(loop: Loop) -> None:
        saved["model"] = copy.deepcopy(loop.model)
        saved["averaged"] = copy.deepcopy(loop.averaged.state_dict())
        saved["optimizer"] = copy.deepcopy(loop.optimizers["model"].state_dict())
        saved["state"] = copy.deepcopy(loop.state.to_json())
        saved["position"] = loop.state.position

    train(loop_of(FakeModel(FakeConfig()), CONFIG), items(), on_checkpoint=save)
    resumed = loop_of(saved["model"], CONFIG)
    resumed.averaged.load_state_dict(saved["averaged"])
    resumed.optimizers["model"].load_state_dict(saved["optimizer"])
    resumed.state = state_from_json(saved["state"], saved["position"])
    assert resumed.state.step == 15
    _, later, _ = train(resumed, items(15))
    assert torch.equal(resumed.model.mean, whole.model.mean)
    assert torch.equal(resumed.averaged.mean, whole.averaged.mean)
    assert [(row.step, row.loss, row.images) for row in later] == [(r.step, r.loss, r.images) for r in rows[1:]]


def test_padding_and_undecodable_samples_change_nothing() -> None:
    def blank(batch: StreamBatch, value: int) -> StreamBatch:
        rgb = batch.rgb.copy()
        rgb[batch.weight == 0] = value
        return replace(batch, rgb=rgb)

    means = []
    for value in (0, 255):
        loop = loop_of(FakeModel(FakeConfig()), CONFIG)
        _, rows, _ = train(loop, (blank(batch, value) for batch in items(faults=1)))
        means.append(loop.model.mean)
        assert rows[-1].images == 90
        assert rows[-1].undecodable == 30
    assert torch.equal(*means)


def test_each_phase_moves_its_own_parameters() -> None:
    loop = loop_of(FakeGan(FakeConfig()), replace(CONFIG, steps=1, warmup_steps=0, weight_decay=0.0))
    train(loop, items())
    assert torch.all(loop.model.mean < 0)  # the generator lowers mean * critic where critic > 0
    assert torch.all(loop.model.critic < 1)  # the critic nears 1 / mean, which is negative


def test_the_average_trails_the_weights_and_takes_the_buffers() -> None:
    loop = loop_of(FakeModel(FakeConfig()), replace(CONFIG, steps=5))
    train(loop, items())
    assert 0 < float(loop.averaged.mean[1].detach()) < float(loop.model.mean[1].detach())
    assert loop.averaged.steps_seen == loop.model.steps_seen == 5
    plain = loop_of(FakeModel(FakeConfig()), replace(CONFIG, ema_decay=0.0))
    assert plain.averaged is plain.model


def test_a_loss_that_is_no_number_ends_the_run_with_advice() -> None:
    class Broken(FakeModel):
        """Its loss is no number from the fourth step on."""

        def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:
            terms = super().forward(batch, phase)
            return {"l2": terms["l2"] * (math.nan if self.steps_seen > 3 else 1.0)}

    config = replace(CONFIG, checkpoint_every_steps=2)
    told = r"not finite at step 4: lower .* from the checkpoint of step 2 with --init-from"
    with pytest.raises(JobError, match=told):
        train(loop_of(Broken(FakeConfig()), config), items())


def test_a_loss_that_grows_a_thousand_times_ends_the_run() -> None:
    class Growing(FakeModel):
        def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:
            terms = super().forward(batch, phase)
            return {"l2": terms["l2"] * 0 + (1000.0 if self.steps_seen > 120 else 1.0)}

    with pytest.raises(JobError, match=r"the loss has diverged at step 12[2-9]: lower"):
        train(loop_of(Growing(FakeConfig()), replace(CONFIG, steps=200)), items())


def test_weights_that_are_no_numbers_are_never_saved() -> None:
    class Exploding(FakeModel):
        """Its loss is a number throughout, and its gradient none from the second step on."""

        def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:
            terms = super().forward(batch, phase)
            if self.steps_seen > 1:
                self.mean.register_hook(lambda gradient: gradient * math.nan)
            return terms

    saved: list[int] = []
    loop = loop_of(Exploding(FakeConfig()), replace(CONFIG, checkpoint_every_steps=2))
    with pytest.raises(JobError, match="a weight is not finite at step 2"):
        train(loop, items(), on_checkpoint=lambda loop: saved.append(loop.state.step))
    assert not saved


@pytest.mark.parametrize("parts", [2, 3, 4, 9])
def test_parts_of_a_batch_have_the_gradients_of_the_whole(parts: int) -> None:
    means = []
    for accumulate in (1, parts):
        config = replace(CONFIG, accumulate=accumulate, steps=5, grad_clip_norm=0.0)
        loop = loop_of(Silent(FakeConfig()), config)
        _, rows, _ = train(loop, items(faults=1))
        means.append((loop.model.mean.detach(), rows[-1].loss))
    torch.testing.assert_close(means[0], means[1])


def test_float16_scales_its_loss_and_goes_on_with_that_scale_after_a_resume() -> None:
    config = replace(CONFIG, precision="fp16")
    whole = loop_of(FakeModel(FakeConfig()), config)
    _, rows, _ = train(whole, items())
    assert rows[-1].loss < rows[0].loss / 2
    scale = whole.state.scaler["scale"]
    assert scale == 65536.0
    resumed = loop_of(FakeModel(FakeConfig()), config)
    resumed.state.scaler = {**whole.state.scaler, "scale": 8.0}
    train(resumed, items())
    assert resumed.state.scaler["scale"] == 8.0
    assert resumed.state.scaler["_growth_tracker"] == 2 * CONFIG.steps


@pytest.mark.slow
def test_a_row_tells_the_share_of_the_time_that_was_spent_waiting_for_data() -> None:
    def slow() -> Iterator[StreamBatch]:
        for batch in items():
            time.sleep(0.02)
            yield batch

    _, rows, _ = train(loop_of(FakeModel(FakeConfig()), CONFIG), slow())
    assert all(0.5 < row.waited[0] <= 1 for row in rows)
    loop = loop_of(FakeModel(FakeConfig()), CONFIG)
    train(loop, slow())
    assert loop.state.waited_s >= 30 * 0.02


def test_a_dataset_that_mostly_cannot_be_decoded_ends_the_run() -> None:
    with pytest.raises(DatasetError, match="can't be decoded: condgen validate"):
        train(loop_of(FakeModel(FakeConfig()), replace(CONFIG, steps=1000)), items(faults=3))


def test_time_ends_a_run_well() -> None:
    def slow() -> Iterator[StreamBatch]:
        for batch in items():
            time.sleep(0.02)
            yield batch

    loop = loop_of(FakeModel(FakeConfig()), replace(CONFIG, steps=10_000, max_seconds=0.5))
    reason, rows, _ = train(loop, slow())
    assert reason == "max_seconds"
    assert rows[-1].step == loop.state.step < 100
    assert rows[-1].lr < 0.2 * CONFIG.learning_rate  # the cosine follows the clock


def test_a_wish_to_stop_ends_a_run_between_two_steps() -> None:
    loop = loop_of(FakeModel(FakeConfig()), CONFIG)
    reason, _, _ = train(loop, items(), asked=lambda: Request(stop=loop.state.step == 7))
    assert reason == "stopped"
    assert loop.state.step == 7
    assert loop.state.position == item(6).after


def test_a_checkpoint_that_is_asked_for_is_made_between_two_steps_and_changes_nothing() -> None:
    loop, plain = loop_of(FakeModel(FakeConfig()), CONFIG), loop_of(FakeModel(FakeConfig()), CONFIG)
    _, rows, checkpoints = train(loop, items(), asked=lambda: Request(save=loop.state.step in (7, 22)))
    assert checkpoints == [7, 15, 22]
    _, plain_rows, _ = train(plain, items())
    assert [row.losses for row in rows] == [row.losses for row in plain_rows]  # to the last bit
    for name, value in plain.model.state_dict().items():
        assert torch.equal(loop.model.state_dict()[name], value)


def test_a_worker_that_waits_for_data_and_is_asked_to_stop_stops_all_and_no_step_is_counted() -> None:
    loop = loop_of(FakeModel(FakeConfig()), CONFIG)
    stream = iter([item(0), item(1), None, item(2)])
    is_asked = False

    def batches() -> Iterator[StreamBatch | None]:
        nonlocal is_asked
        for one in stream:
            is_asked = one is None
            yield one

    reason, rows, _ = train(loop, batches(), asked=lambda: Request(stop=is_asked))
    assert (reason, rows) == ("stopped", [])
    assert loop.state.step == 2
    assert loop.state.position == item(1).after


class Among(Alone):
    """One of three workers, of which the others know that some are on machines about to leave."""

    def __init__(self, leaving: Sequence[float]) -> None:
        self.leaving = leaving

    def sum(self, values: Sequence[float]) -> list[float]:
        if len(values) != self.size:
            return list(values)
        return [mine + theirs for mine, theirs in zip(values, self.leaving, strict=True)]


@pytest.mark.parametrize(
    ("theirs", "mine", "writer"),
    [([0, 0, 0], {0}, 1), ([0, 1, 0], {0}, 2), ([1, 1, 0], set(), 2), ([0, 0, 0], set(), 0), ([1, 1, 1], {0}, 0)],
)
def test_the_lowest_worker_whose_machine_stays_writes_the_last_checkpoint(
    theirs: Sequence[float], mine: set[int], writer: int
) -> None:
    loop = loop_of(FakeModel(FakeConfig()), CONFIG)
    loop.group = Among(theirs)
    loop.group.size = 3
    assert loop._choose_writer(Request(stop=True, leaving=frozenset(mine))) == writer


def test_a_phase_of_period_three_is_stepped_in_every_third_step() -> None:
    class Patient(FakeGan):
        phase_periods = {"generator": 3}  # noqa: RUF012 - a fake's

    loop = loop_of(Patient(FakeConfig()), replace(CONFIG, steps=6, log_every_steps=6))
    _, [row], _ = train(loop, items())
    taken = [int(next(iter(loop.optimizers[name].state.values()))["step"]) for name in ("generator", "critic")]
    assert taken == [2, 6]
    assert set(row.losses) == {"generator", "critic"}


def test_the_optimizer_has_the_betas_that_were_asked_for() -> None:
    loop = loop_of(FakeModel(FakeConfig()), replace(CONFIG, adam_betas=(0.5, 0.99)))
    assert loop.optimizers["model"].param_groups[0]["betas"] == (0.5, 0.99)


def test_a_batch_holds_lightness_and_color_of_the_images() -> None:
    batch = item(3)
    made = FEED.batch(batch, torch.device("cpu"))
    assert made.condition.image.shape == (4, 1, 4, 4)
    assert made.target.shape == (4, 2, 4, 4)
    lab = torch.cat([denormalize_l(made.condition.image), denormalize_ab(made.target)], dim=1)
    rgb = (lab_to_rgb(lab).permute(0, 2, 3, 1) * 255).round()
    np.testing.assert_allclose(rgb.numpy(), batch.rgb, atol=1)


@pytest.mark.parametrize(("steps", "at_step"), [(3, 3), (30, 5)])
def test_training_of_which_no_sample_can_be_decoded_fails_at_its_end_or_after_an_epoch(
    steps: int, at_step: int
) -> None:
    loop = loop_of(FakeModel(FakeConfig()), replace(CONFIG, steps=steps))
    stream = (replace(one, reason="x.tar 7: decode: CutFile: it ends early") for one in items(faults=4))
    with pytest.raises(DatasetError, match=rf"^none of {4 * at_step} images can be decoded, such as x\.tar 7: decode"):
        train(loop, stream)
    assert loop.state.step == at_step


def test_one_image_in_an_epoch_is_enough_to_go_on() -> None:
    loop = loop_of(FakeModel(FakeConfig()), replace(CONFIG, steps=12))
    stream = (item(number, faults=4 if number else 3) for number in itertools.count())
    assert train(loop, stream)[0] == "steps"
