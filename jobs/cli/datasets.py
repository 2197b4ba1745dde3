"""The commands that make, describe and check datasets; `jobs.cli.app` adds them to its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Protocol

import typer

from jobs.cli.options import Command, Group, expand
from pipelines.datasets.option_texts import read_members, read_roles
from pipelines.sharding.options import ShardOptions, SourceOptions

__all__ = ["add_commands", "examples", "print_report"]


class Report(Protocol):
    """What a job returns: it can say how it went."""

    def lines(self) -> Sequence[str]: ...


def print_report(report: Report) -> None:
    """Print a report's lines."""
    for line in report.lines():
        typer.echo(line)


def examples(*lines: str) -> str:
    """An epilogue whose lines stay as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def add_commands(app: typer.Typer) -> None:
    """Add `shard`, `index`, `inspect` and `validate`."""
    commands: list[tuple[Callable[..., None], str, str]] = [
        (
            shard,
            "Images to a dataset of shards.",
            examples(
                "condgen shard photos/ dataset/",
                "condgen shard photos/ s3://bucket/dataset --split train=0.9,val=0.05,test=0.05 --dedup near",
                "condgen shard maps/ dataset/ --side-by-side left --resize 256",
                "condgen shard inputs/ dataset/ --targets targets/",
                "condgen shard list.csv dataset/ --roles image=url,caption=text",
                "condgen shard horses/ dataset/ --unpaired zebras/",
            ),
        ),
        (
            index,
            "An index for shards made elsewhere.",
            examples(
                "condgen index s3://bucket/shards",
                "condgen index 's3://public/x-{000..099}.tar' --out my-index/ --member input=cond --member target=jpg",
            ),
        ),
        (
            inspect,
            "What a dataset is.",
            examples("condgen inspect dataset/", "condgen inspect s3://bucket/dataset --contact-sheet sheet.png"),
        ),
        (
            validate,
            "Every fault of a dataset.",
            examples("condgen validate dataset/", "condgen validate s3://bucket/dataset --report faults.parquet"),
        ),
    ]
    for function, summary, epilog in commands:
        app.command(cls=Command, short_help=summary, epilog=epilog)(expand(function))


def shard(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder or prefix of images, or a table (.parquet, .csv, .tsv, .jsonl)."
        ),
    ],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="The dataset to make, a folder or prefix.")],
    *,
    reading: Annotated[SourceOptions, Group()],
    columns: Annotated[str, typer.Option(hidden=True, help="The name that --roles had in 0.1.")] = "",
    unpaired: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Two domains: DEST/a of SOURCE, DEST/b of OTHER.")
    ] = None,
    options: Annotated[ShardOptions, Group()],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a dataset of other images or options that is there.")
    ] = False,
) -> None:
    """Make a dataset of WebDataset shards: tar files, a manifest and an index.

    The same images give the same bytes. Run again when the source has grown, it adds shards and leaves the old ones as
    they are; which split an image goes to depends on its key alone. What can't be used is listed in rejected.parquet.
    """
    reading = replace(reading, roles=reading.roles or read_roles(columns))
    from jobs.datasets.shard import run, run_unpaired

    facts: dict[str, Any] = {"options": options, "reading": reading, "overwrite": overwrite, "verbose": context.obj}
    reports = run_unpaired(source, unpaired, dest, **facts) if unpaired is not None else [run(source, dest, **facts)]
    for report in reports:
        print_report(report)


def index(
    context: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(metavar="DATASET", help="A folder or prefix of .tar shards, or 'x-{000..099}.tar', 'x-*.tar'."),
    ],
    out: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Where the index goes (default: beside the shards).")
    ] = None,
    members: Annotated[
        list[str] | None,
        typer.Option("--member", metavar="NAME=THEIRS", help="What a member is called in the shards; repeatable."),
    ] = None,
    statistics: Annotated[
        bool, typer.Option("--statistics/--no-statistics", help="Decode the images for their sizes and colors.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an index that is there.")] = False,
) -> None:
    """Make the manifest and the index of WebDataset shards that were made elsewhere.

    PLACE is then opened as the dataset; its shards stay where they are.
    """
    names = read_members(members or ())
    from jobs.datasets.index import run

    report = run(dataset, out=out, member_names=names, statistics=statistics, overwrite=overwrite, verbose=context.obj)
    print_report(report)


def inspect(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A dataset: a folder or prefix of shards.")],
    contact_sheet: Annotated[
        str | None, typer.Option(metavar="FILE.png", help="Show some samples, spread over the dataset, in one image.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=600, metavar="N", help="On the contact sheet.")] = 24,
) -> None:
    """Say what a dataset is: splits, shards, samples, bytes, members, sizes, colors."""
    from jobs.datasets.inspect import run

    print_report(run(dataset, sheet=contact_sheet, sheet_samples=samples))


def validate(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A dataset, or shards made elsewhere.")],
    report: Annotated[
        str | None, typer.Option(metavar="FILE", help="All faults as a table: .parquet or .jsonl.")
    ] = None,
) -> None:
    """Read all of a dataset and report every fault. Exit code 1 where there are any.

    Cut and damaged tars, checksums, members that are missing, images that can't be decoded, duplicate keys, and where
    manifest and index say something else than the shards.
    """
    from jobs.datasets.validate import run

    found = run(dataset, report=report, verbose=context.obj)
    print_report(found)
    raise typer.Exit(found.exit_code)
