"""The commands that read the results of a batch job: ``verify``, ``extract``, ``redraw`` and ``report``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from jobs.dataset_commands import examples, print_report

__all__ = ["add_results_commands"]

Results = Annotated[str, typer.Argument(metavar="RESULTS", help="What condgen colorize or translate wrote.")]
Archive = Annotated[str | None, typer.Option(metavar="ARCHIVE", help="Where the archive is now.")]


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
            report,
            "A page that shows the results.",
            examples("condgen report results/", "condgen report s3://bucket/results --out report.html"),
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

    Every chunk, K draws of each image, the digests of all rows and pictures, the tables of errors, run.json's counts,
    files that no plan names; images with draws, errors and filtered ones are those of the plans.
    """
    from jobs.verify import run

    found = run(results, archive=archive, quick=quick, verbose=context.obj)
    print_report(found)
    raise typer.Exit(found.exit_code)


def report(
    results: Results,
    out: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="The page (default: report.html in RESULTS).")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, metavar="N", help="The most images to show.")] = 24,
) -> None:
    """Make a page of the results: inputs and draws side by side, the counts, the errors, the training curve.

    One file, which needs no network.
    """
    from jobs.report import run

    print_report(run(results, out, max_samples=samples))
