"""The command ``chapter``: the models' claims, checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.datasets import examples

if TYPE_CHECKING:
    from jobs.chapter.run import ExperimentResult

__all__ = ["add_chapter_command"]


def add_chapter_command(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="The chapter's claims, checked by training.",
        epilog=examples(
            "condgen chapter --list",
            "condgen chapter chapter-out/ --quick",
            "condgen chapter chapter-out/ --only ball --only diffusion",
            "condgen chapter two-threads/ --only stripes-patch-1 --seed 3 --seed 4 --threads 2",
        ),
    )(chapter)


def chapter(
    out: Annotated[Path, typer.Argument(metavar="[OUT]", help="A folder for numbers, images and the page.")] = Path(
        "chapter-out"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="One seed and less training: at most 10 minutes.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An experiment or a world, again and again.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, metavar="N", help="A seed in the place of the experiments' own, again.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, metavar="N", help="Of each training; they change the rounding.")] = 1,
    processes: Annotated[int, typer.Option(min=0, metavar="N", help="Trainings at once; 0: as the cores allow.")] = 0,
    listed: Annotated[
        bool, typer.Option("--list", help="The experiments, their seeds and their time; no run.")
    ] = False,
) -> None:
    """Check the claims of the chapter on conditional models: small models, worlds whose true p(y | x) is known.

    Prints claim, metric, threshold, measured and pass, and makes a page of images. The same command again goes on
    with what is not done. Exit code 1 if a claim doesn't hold.
    """
    from jobs.chapter.run import find_experiments, run, table

    if listed:
        for experiment in find_experiments(only or ()):
            seeds = ", ".join(map(str, experiment.seeds))
            minutes = experiment.minutes * len(experiment.seeds)
            typer.echo(f"{experiment.world:10} {experiment.name:24} seeds {seeds:12} about {minutes:.1f} min of a core")
        return
    result = run(
        out, quick=quick, only=only or (), seeds=seed or (), threads=threads, processes=processes, on_done=_say
    )
    for line in (*table(result.rows), "", *result.facts, f"page: {result.page}"):
        typer.echo(line)
    if result.failed:
        typer.echo(f"{result.failed} of {len(result.rows)} bounds do not hold", err=True)
        raise typer.Exit(1)


def _say(done: ExperimentResult, number: int, count: int) -> None:
    typer.echo(f"{number} of {count}: {done.experiment}, seed {done.seed}, {done.seconds:.0f} s of a core")
    sys.stdout.flush()
