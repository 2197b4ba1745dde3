"""The commands that judge: ``evaluate`` and ``compare``."""

from __future__ import annotations

from typing import Annotated

import typer

from condgen.pretrained import DEFAULT_COLORIZER
from jobs.batch_commands import (
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
from jobs.dataset_commands import examples, print_report

__all__ = ["add_evaluation_commands"]


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
    results: Annotated[
        str | None, typer.Argument(metavar="[RESULTS]", help="What condgen colorize or translate wrote.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="ARCHIVE",
            help="The true images, with the same keys: a dataset, shards, a folder (default: the results' archive).",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Evaluate a model on --data, without RESULTS (default: the shipped colorizer)."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Images, or pairs, for --model; the reference too.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a dataset (default: test where --data has it, else all).")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Draws of --model for each image (default: 5 if it draws).")
    ] = None,
    point: Annotated[
        bool, typer.Option("--point", help="The point prediction of --model; with --draws K both are evaluated.")
    ] = False,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="The first N images (whole chunks of RESULTS).")] = 0,
    size: Annotated[
        int, typer.Option(min=16, metavar="PX", help="Short side at which all is measured; smaller ones are enlarged.")
    ] = 256,
    bootstrap: Annotated[
        int, typer.Option(min=0, metavar="N", help="Resamples of the images for 95 % intervals; 0 for none.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Of the draws and the resamples.")] = 0,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE|none", help="MobileNetV2's weights for distances of sets (default: as installed)."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where evaluation.json and .parquet go (default: RESULTS).")
    ] = None,
    temperature: Temperature = 1.0,
    chroma: Chroma = 1.0,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    sampler: Sampler = None,
    top_k: TopK = None,
    top_p: TopP = None,
    direction: Annotated[str, typer.Option(metavar="D", help="Of a model that goes both ways: a2b or b2a.")] = "a2b",
    batch_size: BatchSize = "16",
    precision: Precision = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Judge results, or a model's draws, against the true images, beside answers that cost nothing.

    PSNR, SSIM, ab error, the accuracy curves of Zhang et al. 2016, energy score, total variation, colorfulness,
    diversity, Fréchet and kernel distances; grey, the mean color and the input are always in the table.
    docs/evaluation.md says what each is.
    """
    from jobs.evaluate import EvaluateOptions, run
    from pipelines.plans import BatchSettings

    if results is None and model is None and data is not None:
        model = DEFAULT_COLORIZER
    settings = BatchSettings(
        seed=seed,
        temperature=temperature,
        chroma=chroma,
        steps=steps,
        guidance_scale=guidance_scale,
        sampler=sampler,
        top_k=top_k,
        top_p=top_p,
        direction=direction,
        batch_size=batch_size_of(batch_size),
        precision=precision,
    )
    print_report(
        run(
            EvaluateOptions(
                results=results,
                reference=reference,
                model=model,
                data=data,
                split=split,
                draws=draws,
                point=point,
                settings=settings,
                limit=limit,
                size_px=size,
                resamples=bootstrap,
                seed=seed,
                weights=weights,
                out=out,
                trust_code=trust_code,
                verbose=context.obj,
            )
        )
    )


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="RESULTS or another folder with evaluation.json and .parquet.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same of what is compared with it.")],
    bootstrap: Annotated[
        int, typer.Option(min=1, metavar="N", help="Resamples of the images for 95 % intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Of the resamples.")] = 0,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write the differences there, as JSON.")] = None,
) -> None:
    """Compare two evaluations of the same images, image by image: B - A of each metric, and whether it is real.

    A difference is real where its 95 % interval leaves 0 out. Evaluations of other images, or measured differently,
    are refused.
    """
    from jobs.compare import run

    print_report(run(a, b, resamples=bootstrap, seed=seed, out=out))
