"""The commands that judge: ``evaluate`` and ``compare``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from condgen.pretrained import DEFAULT_COLORIZER
from jobs.cli.datasets import examples, print_report
from jobs.cli.options import Command, Group, expand
from pipelines.evaluation.options import EvaluateOptions
from pipelines.results.settings import BatchSettings

__all__ = ["add_evaluation_commands"]

Results = Annotated[
    str | None, typer.Argument(metavar="RESULTS", help="What condgen colorize or translate wrote; or --data.")
]
Settings = Annotated[
    BatchSettings,
    Group(leave_out=("draws", "seed", "upsampling", "translate", "output", "max_pixels", "chunk_samples")),
]


def add_evaluation_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        cls=Command,
        short_help="How good results or a model are.",
        epilog=examples(
            "condgen evaluate results/",
            "condgen evaluate results/ --reference originals/ --out judged/",
            "condgen evaluate --data photos/ --draws 5 --limit 500",
            "condgen evaluate --model runs/first --data dataset/ --split test --draws 5 --point --out judged/",
        ),
    )(expand(evaluate))
    app.command(
        short_help="Whether one evaluation is better than another.",
        epilog=examples(
            "condgen compare judged-old/ judged-new/", "condgen compare results-a/ results-b/ --out ab.json"
        ),
    )(compare)


def evaluate(
    context: typer.Context,
    results: Results = None,
    *,
    options: Annotated[EvaluateOptions, Group(leave_out=("settings",))],
    settings: Settings,
) -> None:
    """Judge results, or a model's draws, against the true images, beside answers that cost nothing.

    PSNR, SSIM, ab error, the accuracy curves of Zhang et al. 2016, energy score, total variation, colorfulness,
    diversity, Fréchet and kernel distances; grey, the mean color and the input are always in the table.
    docs/evaluation.md says what each is.
    """
    from jobs.evaluation.evaluate import EvaluationReport, run

    model = options.model
    if results is None and model is None and options.data is not None:
        model = DEFAULT_COLORIZER
    settings = replace(settings, seed=options.seed)
    options = replace(options, results=results, model=model, settings=settings)
    print_report(EvaluationReport(run(options, verbose=context.obj)))


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
