"""What is to be evaluated, and how. Importing this imports neither torch nor pyarrow; see `condgen.options`."""

from __future__ import annotations

from dataclasses import dataclass, field

from condgen.options import option
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
    reference: str | None = option(
        None,
        "The true images, with the same keys: a dataset, shards, a folder (default: the results' archive).",
        metavar="ARCHIVE",
    )
    model: str | None = option(
        None, "Evaluate it on --data, without RESULTS (default: the shipped colorizer).", metavar="MODEL"
    )
    data: str | None = option(None, "Images, or pairs, for --model; the reference too.", metavar="DATASET")
    split: str | None = option(
        None, "Split of a dataset (default: test where --data has it, else all).", metavar="NAME", heading="Selection"
    )
    draws: int | None = option(
        None, "Draws of --model for each image (default: 5 if it draws).", metavar="K", min=1, heading="Sampling"
    )
    point: bool = option(
        False,
        "The point prediction of --model; with --draws K both are evaluated.",
        flags=("--point",),
        heading="Sampling",
    )
    limit: int = option(0, "The first N images (whole chunks of RESULTS).", metavar="N", min=0, heading="Selection")
    size_px: int = option(
        256,
        "Short side at which all is measured; smaller ones are enlarged.",
        flags=("--size",),
        metavar="PX",
        min=16,
        heading="Measures",
    )
    resamples: int = option(
        1000,
        "Resamples of the images, for 95 % intervals; 0: none.",
        flags=("--bootstrap",),
        metavar="N",
        min=0,
        heading="Measures",
    )
    seed: int = option(0, "Seed of the draws and the resamples.", metavar="S", min=0, heading="Sampling")
    weights: str | None = option(
        None,
        "MobileNetV2's weights for distances of sets (default: as installed).",
        metavar="FILE|none",
        heading="Measures",
    )
    out: str | None = option(None, "Where evaluation.json and .parquet go (default: RESULTS).", metavar="DIR")
    trust_code: bool = option(False, "MODEL may be a file that is a program (.pt, .pt2).", flags=("--trust-code",))
    settings: BatchSettings = field(default_factory=BatchSettings)
