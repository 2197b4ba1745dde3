"""The commands that judge: ``evaluate`` and ``compare``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from condgen.pretrained import DEFAULT_COLORIZER
from jobs.cli.batch import (
    BatchSize,
    Chroma,
    Guidance,
    Precision,
    Sampler,
    Steps,
    Temperature,
    TopK,
    TopP,
    TrustCode,
    batch_size_of,
)
from jobs.cli.datasets import examples, print_report

__all__ = ["add_evaluation_commands"]

Results = Annotated[
    str | None, typer.Argument(metavar="RESULTS", help="What condgen colorize or translate wrote; or --data.")
]
Reference = Annotated[
    str | None,
    typer.Option(
        metavar="ARCHIVE",
        help="The true images, with the same keys: a dataset, shards, a folder (default: the results' archive).",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Evaluate it on --data, without RESULTS (default: the shipped colorizer)."),
]
Data = Annotated[str | None, typer.Option(metavar="DATASET", help="Images, or pairs, for --model; the reference too.")]
Split = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of a dataset (default: test where --data has it, else all).")
]
Draws = Annotated[
    int | None, typer.Option(min=1, metavar="K", help="Draws of --model for each image (default: 5 if it draws).")
]
Point = Annotated[
    bool, typer.Option("--point", help="The point prediction of --model; with --draws K both are evaluated.")
]
Limit = Annotated[int, typer.Option(min=0, metavar="N", help="The first N images (whole chunks of RESULTS).")]
Size = Annotated[
    int,
    typer.Option(
        "--size", min=16, metavar="PX", help="Short side at which all is measured; smaller ones are enlarged."
    ),
]
Resamples = Annotated[
    int, typer.Option("--bootstrap", min=0, metavar="N", help="Resamples of the images, for 95 % intervals; 0: none.")
]
Seed = Annotated[int, typer.Option(min=0, metavar="S", help="Of the draws and the resamples.")]
Weights = Annotated[
    str | None,
    typer.Option(metavar="FILE|none", help="MobileNetV2's weights for distances of sets (default: as installed)."),
]
Out = Annotated[
    str | None, typer.Option(metavar="DIR", help="Where evaluation.json and .parquet go (default: RESULTS).")
]
Direction = Annotated[str, typer.Option(metavar="D", help="Of a model that goes both ways: a2b or b2a.")]


def add_evaluation_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        short_help="How good results or a model are.",
        epilog=examples(
            "condgen evaluate results/",
            "condgen evaluate results/ --reference originals/ --out judged/",
            "condgen evaluate --data photos/ --draws 5 --limit 500",
            "condgen evaluate --model runs/first --data dataset/ --split test --draws 5 --point --out judged/",
        ),
    )(evaluate)
    app.command(
        short_help="Whether one evaluation is better than another.",
        epilog=examples(
            "condgen compare judged-old/ judged-new/", "condgen compare results-a/ results-b/ --out ab.json"
        ),
    )(compare)


def evaluate(
    context: typer.Context,
    results: Results = None,
    reference: Reference = None,
    model: Model = None,
    data: Data = None,
    split: Split = None,
    draws: Draws = None,
    point: Point = False,
    limit: Limit = 0,
    size_px: Size = 256,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    weights: Weights = None,
    out: Out = None,
    temperature: Temperature = 1.0,
    chroma: Chroma = 1.0,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    sampler: Sampler = None,
    top_k: TopK = None,
    top_p: TopP = None,
    direction: Direction = "a2b",
    batch_size: BatchSize = "16",
    precision: Precision = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Judge results, or a model's draws, against the true images, beside answers that cost nothing.

    PSNR, SSIM, ab error, the accuracy curves of Zhang et al. 2016, energy score, total variation, colorfulness,
    diversity, Fréchet and kernel distances; grey, the mean color and the input are always in the table.
    docs/evaluation.md says what each is.
    """
    given = {name: value for name, value in locals().items() if name != "context"}
    _evaluate(given, verbose=context.obj)


def _evaluate(given: dict[str, Any], *, verbose: bool) -> None:
    """Build the options of the command's, and run it."""
    from jobs.evaluation.evaluate import EvaluateOptions, run
    from pipelines.results.settings import BatchSettings

    if given["results"] is None and given["model"] is None and given["data"] is not None:
        given["model"] = DEFAULT_COLORIZER
    sampling = ("temperature", "chroma", "steps", "guidance_scale", "sampler", "top_k", "top_p", "direction")
    settings = BatchSettings(
        seed=given["seed"],
        batch_size=batch_size_of(given["batch_size"]),
        **{name: given[name] for name in (*sampling, "precision")},
    )
    own = {name: value for name, value in given.items() if name not in (*sampling, "precision", "batch_size")}
    print_report(run(EvaluateOptions(settings=settings, verbose=verbose, **own)))


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="RESULTS or another folder with evaluation.json and .parquet.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same of what is compared with it.")],
    resamples: Annotated[
        int, typer.Option("--bootstrap", min=1, metavar="N", help="Resamples of the images for 95 % intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Of the resamples.")] = 0,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write the differences there, as JSON.")] = None,
) -> None:
    """Compare two evaluations of the same images, image by image: B - A of each metric, and whether it is real.

    A difference is real where its 95 % interval leaves 0 out. Evaluations of other images, or measured differently,
    are refused.
    """
    from jobs.evaluation.compare import run

    print_report(run(a, b, resamples=resamples, seed=seed, out=out))
