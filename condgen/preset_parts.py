"""The parts of a preset: how data is read, how a model is trained, and both with a model. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from condgen.checks import (
    Count,
    Natural,
    NotNegative,
    Number,
    Positive,
    PositiveShare,
    Probability,
    Share,
    check_fields,
)
from condgen.errors import ConfigError

__all__ = ["DataConfig", "Preset", "TrainConfig"]

_SIDE = Number(">= 8")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How a dataset becomes batches.

    Attributes:
        task: choice of x and y from a sample: ``color``, L and ab of an image; ``pairs``, its images ``input`` and
            ``target``; ``domains``, an image of one dataset and any image of another; ``pictures``, y an image and
            x what ``label`` and ``caption`` say.
        label: field of a sample's JSON or table row with its label, a whole number >= 0; empty for none.
        caption: field with its text, whose words become tokens (``condgen.nn.tokens``); empty for none.
        size_px: side of the square that images are fitted to in training (pixels).
        sample_px: side of the square that they are fitted to when the trained model draws (pixels); 0 is ``size_px``.
        lanes: lanes of the epoch's order, a power of two up to 64; 0 chooses it from the dataset's size.
        window_chunks: number of chunks among which a lane shuffles.
        crop_scale_min: smallest side of the random crop, as a share of the largest square that fits; with 1 every
            crop is as large as fits, and only its place is random.
        flip: whether to mirror half of the samples left to right.
        aging_share: share of samples, 0 to 1, whose x is the L of an old photograph's grey (other emulsions, faded
            prints, grain, wear) while y stays the ab of the photograph itself; for the task ``color`` alone.
    """

    task: Literal["color", "pairs", "domains", "pictures"] = "color"
    label: str = ""
    caption: str = ""
    size_px: Annotated[int, _SIDE] = 256
    sample_px: int = 0
    lanes: int = 0
    window_chunks: Count = 2
    crop_scale_min: PositiveShare = 0.6
    flip: bool = True
    aging_share: Share = 0.0

    def __post_init__(self) -> None:
        check_fields("data", self)
        if self.sample_px:
            _SIDE.check("data.sample_px", self.sample_px)
        if self.lanes not in (0, 1, 2, 4, 8, 16, 32, 64):
            raise ConfigError("data.lanes", self.lanes, "0 (chosen from the dataset) or a power of two up to 64")
        if self.aging_share and self.task != "color":
            raise ConfigError("data.aging_share", self.aging_share, f"0 for the task {self.task}: it ages L, of color")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained: AdamW (an optimizer a phase), linear warm-up, then a schedule.

    Attributes:
        steps: number of optimizer steps.
        batch_size: samples a step, over all workers.
        learning_rate: highest learning rate, reached after ``warmup_steps``.
        warmup_steps: steps from 0 to the highest rate.
        schedule: course of the rate after the warm-up: ``cosine`` down to a tenth, or ``linear``: the highest rate for
            half of the steps, then straight down to 0 (the 100 + 100 epochs of Isola et al. 2017 and Zhu et al. 2017).
        adam_betas: decay of the means of the gradient and of its square; many GANs have (0.5, 0.999), and a first
            one of 0 makes it RMSProp.
        weight_decay: weight decay of AdamW; 0 makes it Adam.
        grad_clip_norm: largest norm of the gradient; 0 does not clip.
        ema_decay: decay of the averaged weights, which are the saved ones; 0 does not average.
        seed: seed of the initial weights, the data's order and its augmentation.
        log_every_steps: steps between rows of metrics.
        checkpoint_every_steps: steps between checkpoints; the last step always makes one.
        keep_best: number of checkpoints with the lowest loss that are kept besides the newest two; it is the loss in
            validation where ``validate_every_steps`` is set.
        validate_every_steps: steps from one validation to the next, a multiple of ``checkpoint_every_steps``: the
            averaged weights of the checkpoint are measured on held-out images, while training goes on. The finished
            model is validated too. 0 never validates.
        validation_split: split of the dataset that the images are of.
        validation_images: number of images, the same ones each time.
        sheet_every_steps: steps from one sheet of samples to the next, a multiple of ``checkpoint_every_steps``; the
            finished model has one too. 0 makes none.
        sheet_images: number of images on a sheet.
        divergence_factor: how many times larger than in its first 100 steps the loss may be, as a mean of 20 steps,
            before training ends with an error; 0 sets no limit.
        max_seconds: time after which training ends, with a checkpoint (seconds); 0 sets no limit.
        precision: number format of forward and backward, while weights stay float32: ``fp32``, ``bf16``, ``fp16`` with
            the loss scaled, or ``auto``, which is bf16 on GPUs that have it, fp16 on older ones, fp32 on CPUs. CPUs
            with AVX512-BF16 or AMX train up to twice as fast in bf16.
        accumulate: number of parts in which each worker computes its share of a batch, one after the other, so that a
            larger batch fits into memory. Losses and gradients are those of the whole share; a model with batch
            normalization normalizes each part by itself.
        channels_last: whether convolutions keep their channels innermost, which is faster on GPUs with tensor cores.
        fused_on_cpu: whether CPUs do AdamW's step in one kernel, as GPUs always do: several times as fast. A run goes
            on as it was begun; those of versions that did not know this setting go on without.
        compile: whether ``torch.compile`` makes one program of each network, in the first steps, which takes a minute
            or two: ``none``, ``default``, or ``reduce-overhead``, which also records a GPU's work as CUDA graphs, for
            small batches. Results are those of ``none`` up to rounding, except for what dropout draws.
        stored_weights: number format in which the averaged weights are saved: ``fp32``, or ``fp16`` at half the size.
    """

    steps: Count = 100_000
    batch_size: Count = 64
    learning_rate: Positive = 3e-4
    warmup_steps: Natural = 1_000
    schedule: Literal["cosine", "linear"] = "cosine"
    adam_betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: NotNegative = 0.01
    grad_clip_norm: NotNegative = 1.0
    ema_decay: Probability = 0.999
    seed: Natural = 0
    log_every_steps: Count = 50
    checkpoint_every_steps: Count = 1_000
    keep_best: Natural = 0
    validate_every_steps: Natural = 0
    validation_split: str = "val"
    validation_images: Count = 256
    sheet_every_steps: Natural = 0
    sheet_images: Count = 8
    divergence_factor: NotNegative = 100.0
    max_seconds: NotNegative = 0.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    accumulate: Count = 1
    channels_last: bool = False
    fused_on_cpu: bool = True
    compile: Literal["none", "default", "reduce-overhead"] = "none"
    stored_weights: Literal["fp32", "fp16"] = "fp32"

    def __post_init__(self) -> None:
        check_fields("train", self)
        if not all(0.0 <= beta < 1.0 for beta in self.adam_betas):
            raise ConfigError("train.adam_betas", self.adam_betas, "two numbers >= 0 and < 1")
        for name in ("validate_every_steps", "sheet_every_steps"):
            if getattr(self, name) % self.checkpoint_every_steps:
                allowed = f"0, or a multiple of train.checkpoint_every_steps, {self.checkpoint_every_steps}"
                raise ConfigError(f"train.{name}", getattr(self, name), allowed)

    @property
    def validates(self) -> bool:
        """Whether checkpoints are validated, or have sheets."""
        return bool(self.validate_every_steps or self.sheet_every_steps)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A complete configuration.

    Attributes:
        name: name for ``condgen train --preset``.
        summary: one line for ``condgen models``.
        model: the family's configuration, which names the family.
        data: settings for reading the dataset.
        train: settings for training the model.
    """

    name: str
    summary: str
    model: Any
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def family(self) -> str:
        """Name of the model's family."""
        name: str = self.model.family
        return name
