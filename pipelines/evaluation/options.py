"""What is to be evaluated, and how. Importing this imports neither torch nor pyarrow; see `condgen.options`."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.results.settings import BatchSettings

__all__ = ["EvaluateOptions"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What is to be evaluated, and how.

    Attributes:
        results: finished results; None for a model.
        reference: their true images; None for the archive that they were made from.
        model, data: a model and a dataset, in place of results.
        split: split of the dataset, or of a reference that is one; None is `test` of data that has it, else all.
        draws, point: the model's answers; see `pipelines.evaluation.planning.model_subject`.
        limit: most images, the first of them; 0 for all.
        size_px: short side at which all is measured (pixels).
        resamples, seed: resamples of the bootstrap and its seed, which is the draws' too; 0 resamples leave intervals
            out.
        weights: weights of the feature extractor, a file or URI; None looks for them, `none` leaves set distances out.
        out: place where the evaluation is written; None for the results' own folder, and for a model nowhere.
        trust_code: the model may be a file that is a program.
        settings: settings of the batch job that would make the model's answers.
    """

    results: str | None = None
    reference: str | None = field(
        default=None,
        metadata={
            "help": "The true images, with the same keys: a dataset, shards, a folder (default: the results' archive).",
            "metavar": "ARCHIVE",
        },
    )
    model: str | None = field(
        default=None,
        metadata={
            "help": "Evaluate it on --data, without RESULTS (default: the shipped colorizer).",
            "metavar": "MODEL",
        },
    )
    data: str | None = field(
        default=None,
        metadata={"help": "Images, or pairs, for --model; the reference too.", "metavar": "DATASET"},
    )
    split: str | None = field(
        default=None,
        metadata={
            "help": "Split of a dataset (default: test where --data has it, else all).",
            "metavar": "NAME",
            "heading": "Selection",
        },
    )
    draws: int | None = field(
        default=None,
        metadata={
            "help": "Draws of --model for each image (default: 5 if it draws).",
            "metavar": "K",
            "min": 1,
            "heading": "Sampling",
        },
    )
    point: bool = field(
        default=False,
        metadata={
            "help": "The point prediction of --model; with --draws K both are evaluated.",
            "flags": ("--point",),
            "heading": "Sampling",
        },
    )
    limit: int = field(
        default=0,
        metadata={
            "help": "The first N images (whole chunks of RESULTS).",
            "metavar": "N",
            "min": 0,
            "heading": "Selection",
        },
    )
    size_px: int = field(
        default=256,
        metadata={
            "help": "Short side at which all is measured; smaller ones are enlarged.",
            "flags": ("--size",),
            "metavar": "PX",
            "min": 16,
            "heading": "Measures",
        },
    )
    resamples: int = field(
        default=1000,
        metadata={
            "help": "Resamples of the images, for 95 % intervals; 0: none.",
            "flags": ("--bootstrap",),
            "metavar": "N",
            "min": 0,
            "heading": "Measures",
        },
    )
    seed: int = field(
        default=0,
        metadata={
            "help": "Seed of the draws and the resamples.",
            "metavar": "S",
            "min": 0,
            "heading": "Sampling",
        },
    )
    weights: str | None = field(
        default=None,
        metadata={
            "help": "MobileNetV2's weights for distances of sets (default: as installed).",
            "metavar": "FILE|none",
            "heading": "Measures",
        },
    )
    out: str | None = field(
        default=None,
        metadata={"help": "Where evaluation.json and .parquet go (default: RESULTS).", "metavar": "DIR"},
    )
    trust_code: bool = field(
        default=False,
        metadata={"help": "MODEL may be a file that is a program (.pt, .pt2).", "flags": ("--trust-code",)},
    )
    settings: BatchSettings = field(default_factory=BatchSettings)
