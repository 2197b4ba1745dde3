"""The commands that read the results of a batch job: ``verify``, ``extract``, ``redraw`` and ``report``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from condgen.errors import ConfigError
from jobs.cli.datasets import examples, print_report

__all__ = ["add_results_commands"]

Results = Annotated[str, typer.Argument(metavar="RESULTS", help="What condgen colorize or translate wrote.")]


def add_results_commands(app: typer.Typer) -> None:
    """Add the commands."""
    commands: list[tuple[Callable[..., None], str, str]] = [
        (
            verify,
            "Whether results are whole.",
            examples(
                "condgen verify results/",
                "condgen verify s3://bucket/results --quick",
                "condgen verify results/ --archive photos/",
            ),
        ),
        (
            extract,
            "Images of results as files.",
            examples(
                "condgen extract results/ images/",
                "condgen extract s3://bucket/results s3://bucket/images --draw all",
                "condgen extract results/ images/ --key album/0042 --key album/0043",
            ),
        ),
        (
            redraw,
            "One draw made again, and compared.",
            examples(
                "condgen redraw results/ --key album/0042 --draw 1",
                "condgen redraw s3://bucket/results --key 0042 --source train-000003.tar --draw 0 --out draw.png",
            ),
        ),
        (
            report,
            "A page that shows results or a run.",
            examples(
                "condgen report results/",
                "condgen report runs/facades",
                "condgen report s3://bucket/results --out report.html",
                "condgen report results/ --card",
            ),
        ),
    ]
    for command, summary, epilog in commands:
        app.command(short_help=summary, epilog=epilog)(command)


def verify(
    context: typer.Context,
    results: Results,
    archive: Annotated[
        str | None,
        typer.Option(metavar="ARCHIVE", help="Where the images are now: compare them with their draws' source_sha256."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read the footers of the draws files alone.")] = False,
) -> None:
    """Check that results are all that their plans say. Exit code 1 where anything is missing or wrong.

    Every chunk, K draws of each image, the digests of all rows and images, the tables of errors, run.json's counts,
    files that no plan names; images with draws, errors and filtered ones are those of the plans.
    """
    from jobs.results.verify import run

    found = run(results, archive=archive, quick=quick, verbose=context.obj)
    print_report(found)
    raise typer.Exit(found.exit_code)


def extract(
    context: typer.Context,
    results: Results,
    destination: Annotated[str, typer.Argument(metavar="DEST", help="A folder or prefix for the images.")],
    draw: Annotated[str, typer.Option(metavar="K|all", help="Which draw of each image, from 0.")] = "0",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write over files in DEST that are something else.")
    ] = False,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="KEY", help="Only the image of this key; may be there several times."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="The shard or file of --key, where its key is in several.")
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Only the keys in its lines; - is stdin. A line may be SOURCE, a tab, KEY."),
    ] = None,
) -> None:
    """Write the images of results as files, under the archive's own names and in its folders.

    photos/album/0042.png becomes DEST/album/0042.jpg (0042.draw0.jpg, ... with --draw all), with the metadata of the
    original; of shards, DEST/KEY.jpg, or DEST/SHARD/KEY.jpg where keys are in several shards. Names that are the same
    or that no file system takes are told apart by what is added to them. The same command again writes what is missing.

    With --key or --keys, only these images are read and written, of results that are not complete too. Their names are
    as if the results had no others.
    """
    from jobs.results.extract import listed_images, run, run_selected

    if draw != "all" and not draw.isdecimal():
        raise ConfigError("--draw", draw, "a number from 0, or all")
    number = None if draw == "all" else int(draw)
    if source is not None and not key:
        raise ConfigError("--source", source, "with --key; in lines of --keys, the source stands before a tab")
    if key or keys is not None:
        images = listed_images(key or [], source, keys)
        selected = run_selected(results, destination, images, draw=number, overwrite=overwrite)
        print_report(selected)
        raise typer.Exit(selected.exit_code)
    found = run(results, destination, draw=number, overwrite=overwrite, verbose=context.obj)
    print_report(found)
    raise typer.Exit(found.exit_code)


def redraw(
    results: Results,
    key: Annotated[str, typer.Option(metavar="KEY", help="Of the image, as the column `key` has it.")],
    draw: Annotated[int, typer.Option(min=0, metavar="K", help="Which draw of it, from 0.")] = 0,
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="The shard or file, where its key is in several.")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write the image: .png, .jpg, .webp or .tif.")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Where the model is, if it has moved.")] = None,
    archive: Annotated[
        str | None, typer.Option(metavar="ARCHIVE", help="Where the archive is, if it has moved.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="The model may be a file that is a program (.pt, .pt2).")
    ] = False,
) -> None:
    """Make one draw again, alone, from its row and the plan, and compare it with the stored image.

    With the same versions on the same hardware it is the same, pixels and bytes. Exit code 1 where it is not, though
    the versions are the same.
    """
    from jobs.results.redraw import run

    found = run(
        results, key=key, draw=draw, source=source, out=out, model=model, archive=archive, trust_code=trust_code
    )
    print_report(found)
    raise typer.Exit(found.exit_code)


def report(
    target: Annotated[
        str,
        typer.Argument(metavar="RESULTS|RUN", help="What condgen colorize or translate wrote, or condgen train --out."),
    ],
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The page (default: report.html in RESULTS or RUN), or the card."),
    ] = None,
    samples: Annotated[int, typer.Option(min=0, metavar="N", help="The most images of RESULTS to show.")] = 60,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Another one, other images at random.")] = 0,
    card: Annotated[bool, typer.Option("--card", help="Write a dataset card of RESULTS for a hub instead.")] = False,
) -> None:
    """Make a page of results, or of a training run: one file of less than 16 MB, which needs no network.

    Of RESULTS: a sample of inputs and draws side by side, the counts, the errors. Half of the sample is random; the
    other half are the best and the worst images, where condgen evaluate has measured them.

    Of a RUN, which may be going on: the curves of its loss, speed and validation, the sheets of samples by step, its
    status, configuration and versions.
    """
    from jobs.report.kind import find_kind
    from pipelines.storage.store import open_store

    kind = find_kind(open_store(target))
    if card:
        from jobs.report.card import run_card

        if kind == "run":
            raise ConfigError("--card", target, "RESULTS of condgen colorize or translate: a RUN has no draws")
        print_report(run_card(target, out))
    elif kind == "run":
        from jobs.report import training

        print_report(training.run(target, out))
    else:
        from jobs.report.page import run

        print_report(run(target, out, max_samples=samples, seed=seed))
