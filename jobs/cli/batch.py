"""The commands of the batch job: ``colorize`` and ``translate``, which have most of their options in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import typer

from condgen.errors import ConfigError
from condgen.options import option
from condgen.pretrained import DEFAULT_COLORIZER
from jobs.cli.datasets import examples, print_report
from jobs.cli.options import Command, Group, expand
from pipelines.cluster.option_texts import read_count_range, read_seconds
from pipelines.datasets.option_texts import read_roles
from pipelines.results.settings import BatchSettings

__all__ = ["add_batch_commands"]

Archive = Annotated[
    str,
    typer.Argument(
        metavar="ARCHIVE",
        help="Images, .tar shards, Parquet or a table of images: a folder or prefix, a file, or a pattern in quotes.",
    ),
]
Results = Annotated[str, typer.Argument(metavar="RESULTS", help="A folder or prefix for the Parquet files, run.json.")]
Model = Annotated[
    str,
    typer.Option(metavar="MODEL", help="A run of condgen train, a checkpoint of it, or package.module:Class."),
]
Colorizer = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="The shipped colorizer, a run of condgen train, a checkpoint of it, or package.module:Class.",
    ),
]
Point = Annotated[
    bool,
    typer.Option(
        "--point", help="The model's point prediction in place of draws; one an image.", rich_help_panel="Sampling"
    ),
]


def read_actors(text: str) -> tuple[int, int] | None:
    """Return the least and the most actors in `N|MIN:MAX`; None of 0.

    Raises:
        ConfigError: it is neither.
    """
    least, most = read_count_range("--actors", text)
    if (least, most) == (0, 0):
        return None
    if least < 1:
        raise ConfigError("--actors", text, "MIN:MAX with 1 <= MIN <= MAX; 0 is as many as fit")
    return least, most


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """The options of a batch job besides its settings, see `pipelines.batch.job.BatchJob`."""

    trust_code: bool = option(False, "MODEL may be a file that is a program (.pt, .pt2).", flags=("--trust-code",))
    retry_errors: bool = option(False, "Do again what failed.", flags=("--retry-errors",))
    dry_run: bool = option(False, "Show the plan, the size and time expected, and stop.", flags=("--dry-run",))
    where: str | None = option(
        None, 'Only images whose listing holds it: "year < 1900".', metavar="CONDITION", heading="Selection"
    )
    limit: int = option(
        0, "At most N images in all of RESULTS; 0 is no limit.", metavar="N", min=0, heading="Selection"
    )
    taken_as: str | None = option(
        None,
        "What ARCHIVE is, where it holds several kinds: images, shards, parquet or table.",
        metavar="KIND",
        flags=("--as",),
        heading="Selection",
    )
    roles: Mapping[str, str] | None = option(
        None,
        "Which column of a table is what: image, key.",
        metavar="ROLE=COLUMN,...",
        read=read_roles,
        heading="Selection",
    )
    archive_columns: Mapping[str, str] | None = option(
        None, "The name that --roles had in 0.1.", read=read_roles, hidden=True
    )
    engine: Literal["auto", "local", "ray"] = option(
        "auto",
        "ray; local: this machine without Ray; auto: local for up to 512 images without a cluster or a GPU.",
        metavar="NAME",
        heading="Resources",
    )
    actors: tuple[int, int] | None = option(
        None,
        "Model processes: MIN are waited for, more start as there is room; 0 is as many as fit.",
        metavar="N|MIN:MAX",
        flags=("--actors", "--workers"),
        read=read_actors,
        default="0",
        heading="Resources",
    )
    num_gpus: float | None = option(
        None,
        "GPUs for each actor, 0.5 say (default: 1, or 0 if none is there).",
        metavar="G",
        min=0.0,
        heading="Resources",
    )
    wait_for_s: float | None = option(
        None,
        "Wait so long for nodes to come: 90s, 30m, 2h (default: 30m on a cluster, 0 here).",
        metavar="TIME",
        flags=("--wait-for",),
        read=partial(read_seconds, "--wait-for"),
        heading="Resources",
    )
    max_error_rate: float | None = option(
        None,
        "Stop, or fail at the end, if more of the images fail (default: stop at 0.9, after 200 images).",
        metavar="R",
        min=0.0,
        max=1.0,
        heading="Resources",
    )


def add_batch_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        cls=Command,
        short_help="K draws of each image of an archive, into Parquet.",
        epilog=examples(
            "condgen colorize photos/ results/",
            "condgen colorize s3://bucket/archive s3://bucket/results --draws 5 --seed 1",
            "condgen colorize photos/ results/ --model runs/first --dry-run",
            "condgen colorize photos/ results/ --retry-errors",
        ),
    )(expand(colorize))
    app.command(
        cls=Command,
        short_help="An archive through an image-to-image model, into Parquet.",
        epilog=examples(
            "condgen translate maps/ results/ --model my_package.models:MapToPhoto",
            "condgen translate s3://bucket/archive s3://bucket/results --model model.pt --trust-code",
        ),
    )(expand(translate))


def colorize(
    context: typer.Context,
    archive: Archive,
    results: Results,
    *,
    model: Colorizer = DEFAULT_COLORIZER,
    settings: Annotated[BatchSettings, Group(leave_out=("translate", "direction"))],
    point: Point = False,
    options: Annotated[JobOptions, Group()],
) -> None:
    """Colorize an archive: K draws of each image into Parquet, every image accounted for.

    An image that can't be done becomes a row of RESULTS/errors; images with draws and errors add up to the archive.
    The same command again does what is left, and what is new in the archive.
    """
    _run(archive, results, model, settings, options, point=point, verbose=context.obj)


def translate(
    context: typer.Context,
    archive: Archive,
    results: Results,
    *,
    model: Model,
    settings: Annotated[BatchSettings, Group(leave_out=("colorize",))],
    point: Point = False,
    options: Annotated[JobOptions, Group()],
) -> None:
    """Translate an archive with an image-to-image model: K draws of each image into Parquet, all accounted for.

    Images keep their size and aspect: small ones are padded, large ones done in overlapping tiles.
    The same command again does what is left, and what is new in the archive.
    """
    settings = replace(settings, kind="translate")
    _run(archive, results, model, settings, options, point=point, verbose=context.obj)


def _run(
    archive: str,
    results: str,
    model: str,
    settings: BatchSettings,
    options: JobOptions,
    *,
    point: bool,
    verbose: bool,
) -> None:
    """Build the job, and run it or show its plan."""
    from jobs import batch
    from pipelines.batch.archive import Selection
    from pipelines.batch.job import BatchJob, Resources
    from pipelines.datasets.row_filter import parse

    job = BatchJob(
        archive=archive,
        results=results,
        model=model,
        settings=settings.as_point() if point else settings,
        selection=Selection(
            where=parse(options.where) if options.where else None,
            limit=options.limit,
            columns=options.roles or options.archive_columns or {},
            taken_as=options.taken_as,
        ),
        resources=Resources(
            engine=options.engine,
            actors=options.actors,
            num_gpus=options.num_gpus,
            wait_for_s=options.wait_for_s,
        ),
        retry_errors=options.retry_errors,
        trust_code=options.trust_code,
        max_error_rate=options.max_error_rate,
    )
    print_report(batch.dry_run(job) if options.dry_run else batch.run(job, verbose=verbose))
