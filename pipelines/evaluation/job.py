"""The evaluation: how good results, or a model's draws, are; see `docs/evaluation.md`.

results or model ─┐
reference ────────┴─ survey ─ parts, measured ─ rows, sums ─ evaluation.parquet, evaluation.json, a table
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import ConfigError, DatasetError, JobError
from pipelines.cluster.tasks import one_thread
from pipelines.datasets.chunk import iter_chunks
from pipelines.evaluation.features import EXTRACTOR, FEATURE_PX
from pipelines.evaluation.measures import MeasureSettings
from pipelines.evaluation.options import EvaluateOptions
from pipelines.evaluation.parts import EvaluationSpec, cut_parts
from pipelines.evaluation.planning import Subject, model_subject, results_subject
from pipelines.evaluation.running import in_order, run_here, run_on_ray, survey_reference
from pipelines.evaluation.stored import FORMAT, RowsFile, write_evaluation
from pipelines.evaluation.summary import Shortfall, Totals, Values, estimate, set_distances, set_shortfalls
from pipelines.evaluation.survey import Survey
from pipelines.evaluation.values import Rows
from pipelines.models.pretrained_weights import INSTALL, find_mobilenet_v2, read_weights
from pipelines.models.source import open_model
from pipelines.storage.store import open_store

__all__ = ["Evaluation", "evaluate"]

logger = logging.getLogger(__name__)

RAY_FROM_IMAGES = 200
"""From so many images on Ray measures them; fewer are done before it has started."""

_LOOKS_A_MEASUREMENT = 20
"""So many references are looked at in the time in which one image is measured."""

KERNEL_IMAGES = 2000
"""About so many images, chosen by their keys, have their features kept for the kernel distance."""

VERSIONS = ("condgen", "torch", "torchvision", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The outcome of an evaluation: how good the answers are.

    Attributes:
        facts: contents of `evaluation.json` besides the numbers.
        values: estimates by metric and answer.
        shortfalls: metrics in which the model's answers don't beat those that cost nothing.
        out: place where it was written, None for nowhere.
        seconds: time that it took.
    """

    facts: Mapping[str, Any]
    values: Values
    shortfalls: list[Shortfall]
    out: str | None
    seconds: float


def evaluate(
    options: EvaluateOptions,
    *,
    cluster: Callable[[], AbstractContextManager[None]] = nullcontext,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Evaluation:
    """Evaluate results or a model.

    Args:
        options: options of the evaluation.
        cluster: context that starts Ray and ends it; by default Ray is there (`ray.init()`), or starts by itself. Few
            images are measured without it.
        watch: function that is told how many images are measured, and of how many; called after each part.

    Raises:
        ConfigError: an option that is not allowed, or that does not go with another.
        DatasetError: there is nothing to measure.
        CheckpointError, StorageError: the model or the images can't be read.
    """
    began = time.monotonic()
    settings, subject = _prepare(options)
    out = options.out or options.results
    store = open_store(out) if out else None
    weights = None if options.weights == "none" else find_mobilenet_v2(options.weights)
    parts = cut_parts(iter_chunks(subject.chunks))
    images, of_reference = _samples(subject.chunks), _samples(subject.reference.chunks)
    totals, measured = Totals(), 0
    with _cluster(max(images, of_reference // _LOOKS_A_MEASUREMENT), cluster) as on_ray, RowsFile() as file:
        survey = survey_reference(subject.reference, settings, on_ray=on_ray)
        spec = EvaluationSpec(
            source=subject.make_source(survey),
            settings=settings,
            mean=survey.mean,
            weights=read_weights(weights) if weights else None,
            judge=subject.judge,
            kernel_share=min(1.0, KERNEL_IMAGES / images),
        )
        for result in in_order(run_on_ray(spec, parts) if on_ray else run_here(spec, parts)):
            file.add(result.rows)
            totals.add(result)
            measured += sum(chunk.samples for chunk in parts[result.ordinal].chunks)
            watch(measured, images)
        if subject.missing:
            totals.reasons["not done yet"] += subject.missing
        rows = Rows.of(_measured(file.read(), totals.reasons))
        values, shortfalls = estimate(rows, kind=subject.kind, resamples=options.resamples, seed=options.seed)
        with one_thread():
            distances = set_distances(totals)
        values |= distances
        evaluation = Evaluation(
            facts=_facts(options, subject, settings, weights, rows, totals, survey),
            values=values,
            shortfalls=[*shortfalls, *set_shortfalls(distances)],
            out=store.uri if store else None,
            seconds=time.monotonic() - began,
        )
        if store is not None:
            write_evaluation(store, file, _json(evaluation, totals))
    return evaluation


@contextmanager
def _cluster(images: int, cluster: Callable[[], AbstractContextManager[None]]) -> Iterator[bool]:
    """Start a cluster where it is worth it; on a machine that is too busy for one, this process does it all."""
    with ExitStack() as stack:
        on_ray = images >= RAY_FROM_IMAGES
        if on_ray:
            try:
                stack.enter_context(cluster())
            except JobError as error:
                if os.environ.get("RAY_ADDRESS"):
                    raise
                logger.warning("%s; this process measures alone", str(error).partition(":")[0])
                on_ray = False
        yield on_ray


def _prepare(options: EvaluateOptions) -> tuple[MeasureSettings, Subject]:
    if (options.results is None) == (options.model is None):
        raise ConfigError("RESULTS", options.results, "either finished RESULTS, or --model and --data")
    if options.results is not None:
        if options.data is not None or options.draws is not None or options.point:
            raise ConfigError("--data", options.data, "none of --data, --draws, --point: RESULTS have their draws")
        subject = results_subject(open_store(options.results).require(), options)
    else:
        if options.data is None or options.reference is not None:
            raise ConfigError("--data", options.data, "a dataset beside --model, which is the reference too")
        subject = model_subject(open_model(str(options.model), trust_code=options.trust_code), options.data, options)
    return MeasureSettings(kind=subject.kind, size_px=options.size_px), subject


def _samples(chunks: pa.Table) -> int:
    return int(pc.sum(chunks["samples"]).as_py() or 0)


def _measured(table: pa.Table, reasons: Mapping[str, int]) -> pa.Table:
    if table.num_rows:
        return table
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    hint = "the keys of the two sets differ" if set(reasons) == {"no reference"} else "see condgen verify and validate"
    raise DatasetError(f"no image could be measured ({told}): {hint}")


def _facts(
    options: EvaluateOptions,
    subject: Subject,
    settings: MeasureSettings,
    weights: Path | None,
    rows: Rows,
    totals: Totals,
    survey: Survey,
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "format": FORMAT,
        **subject.facts,
        "kind": subject.kind,
        "reference": subject.reference.uri,
        "images": len(rows),
        "images_sha256": hashlib.sha256(json.dumps(rows.names).encode()).hexdigest(),
        "not_measured": dict(sorted(totals.reasons.items())),
        "draws": subject.draws,
        "size_px": settings.size_px,
        "small_px": settings.set_px,
        "bootstrap": {"resamples": options.resamples, "seed": options.seed, "level": 0.95},
        "features": None,
        "versions": {name: version(name) for name in VERSIONS},
    }
    if settings.is_color:
        facts["mean_color"] = survey.mean.tolist()
    if survey.repeated:
        facts["repeated_keys"] = survey.repeated
    calibration = totals.calibration()
    if calibration is not None:
        facts["calibration"] = calibration
    if weights is not None:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        facts["features"] = {
            "extractor": EXTRACTOR,
            "size_px": FEATURE_PX,
            "weights_sha256": digest,
            "kernel_images": totals.kernel_images,
        }
    elif options.weights != "none":
        facts["features_missing"] = f"MobileNetV2's weights are not installed: {INSTALL}"
    return facts


def _json(evaluation: Evaluation, totals: Totals) -> dict[str, Any]:
    return {
        **evaluation.facts,
        "metrics": {
            name: {answer: value.to_json() for answer, value in by_answer.items()}
            for name, by_answer in evaluation.values.items()
        },
        "not_beaten": [asdict(one) for one in evaluation.shortfalls],
        "curves": totals.curves(),
    }
