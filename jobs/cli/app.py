"""The command line: ``condgen COMMAND``.

Each command is a function: `demo` and `train` are below, and the others are in the modules beside this one.
A command builds its job's options, runs the job, and prints the lines of its report. It imports the job only when it
runs, so that ``--help`` needs neither torch nor ray. How a command ends is decided in one place, `_run`: an error that
condgen raises on purpose gives one line and its own exit code; anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from typer.exceptions import TyperException

from condgen.errors import Interrupted, nearest
from jobs.cli.batch import add_batch_commands
from jobs.cli.chapter import add_chapter_command
from jobs.cli.cluster import add_cluster_commands
from jobs.cli.datasets import add_commands, examples, print_report
from jobs.cli.evaluation import add_evaluation_commands
from jobs.cli.gallery import add_gallery_command
from jobs.cli.models import add_model_commands
from jobs.cli.options import Command, Group, expand
from jobs.cli.results import add_results_commands
from pipelines.cluster.errors import unwrap
from pipelines.training.options import RunOptions

__all__ = ["app", "main"]

EXIT_USAGE = 2
EXIT_BUG = 1
EXIT_INTERRUPTED = 130
PYTHONS = ((3, 11), (3, 13))
"""Oldest and newest Python that is supported: those that the test suite was run on."""
VERBOSE_FLAGS = ("--verbose", "-v")

app = typer.Typer(
    name="condgen",
    help="""Conditional image models at archive scale: several draws of p(y | x) for every image, into Parquet.

    \b
    First:   condgen demo                     everything once, small, in minutes
    Then:    condgen shard PHOTOS DATASET     photographs to WebDataset shards
             condgen train --preset color-classifier-small --data DATASET --out RUN
             condgen colorize PHOTOS RESULTS --model RUN
             condgen report RESULTS

    Every path is a local path or a URI that fsspec knows (s3://bucket/prefix). A command that was stopped goes on where
    it was when it is run again.""",
    epilog="condgen COMMAND --help tells the rest. Exit codes: 0 done, 1 the job failed, 2 it can't be done as "
    "asked, 75 interrupted, to be run again, 130 stopped by Ctrl-C.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    suggest_commands=False,  # done in `_explain`, in one way for commands and options
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def _print_version(value: bool) -> None:
    if not value:
        return
    names = ("condgen", "torch", "torchvision", "ray", "pyarrow")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} (not installed)")
    python = ".".join(map(str, sys.version_info[:3]))
    typer.echo(f"{found[0]} ({', '.join(found[1:])}, Python {python})")
    raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option(*VERBOSE_FLAGS, help="Log all that is done, Ray's own lines too; show tracebacks.")
    ] = False,
) -> None:
    from jobs.cli.progress import configure_logging

    configure_logging(verbose=verbose)
    context.obj = verbose
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    short_help="Everything once, small, in minutes.",
    epilog=examples("condgen demo", "condgen demo --out s3://bucket/demo", "condgen demo --fresh"),
)
def demo(
    context: typer.Context,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Where shards, models, results and the report go; a path or URI.")
    ] = "demo-out",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: remove what an earlier demo left there.")] = False,
    photographs: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where the photographs are written (default: the user's cache folder)."),
    ] = None,
) -> None:
    """Everything once, small, in minutes: photographs, shards, training, three colorizations of each, a report.

    The photographs come from installed packages (the extra `demo`); nothing is downloaded. What an earlier run
    completed is used again.
    """
    from jobs.demo.run import DemoOptions, run

    print_report(run(DemoOptions(out=out, fresh=fresh, photographs=photographs, verbose=context.obj), say=_say))


def _say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()


add_commands(app)


@app.command(
    cls=Command,
    short_help="Train a model from a preset.",
    epilog=examples(
        "condgen train --preset color-classifier-small --data dataset/ --out runs/first",
        "condgen train --preset color-classifier --data s3://bucket/dataset --out s3://bucket/run --workers 8",
        "condgen train --preset regression-small --data dataset/ --out runs/l2 --set train.steps=200 --dry-run",
    ),
)
@expand
def train(
    context: typer.Context,
    data: Annotated[str, typer.Option(metavar="DATASET", help="The dataset, as condgen shard makes it.")],
    out: Annotated[
        str, typer.Option(metavar="RUN", help="The run's folder or prefix: checkpoints, metrics, configuration.")
    ],
    *,
    data_b: Annotated[
        str | None, typer.Option(metavar="DATASET", help="The second domain's dataset, of an unpaired model.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A complete configuration: condgen models lists them."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change one field (again and again); YAML values."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE.yaml", help="Change the fields that the file names; --set goes over it."),
    ] = None,
    options: Annotated[RunOptions, Group()],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the whole configuration and what would be done, and stop.")
    ] = False,
) -> None:
    """Train a model from a preset on a dataset of shards.

    The same command again goes on from the last checkpoint, at the next sample.
    """
    from jobs.cli.config import render, resolve

    settings = resolve(preset, file=config, assignments=assignments or ())
    if dry_run:
        typer.echo(render(settings))
    from jobs.train import run
    from pipelines.training import TrainOptions, describe_run

    job = TrainOptions(preset=settings, data=data, data_b=data_b, out=out, **vars(options))
    print_report(describe_run(job) if dry_run else run(job, verbose=context.obj))


add_batch_commands(app)
add_results_commands(app)
add_gallery_command(app)
add_evaluation_commands(app)
add_chapter_command(app)
add_model_commands(app)
add_cluster_commands(app)


def _explain(error: TyperException, arguments: Sequence[str]) -> str:
    """A wrong command or option, or a missing one, in a line with the nearest right one."""
    message = " ".join(error.format_message().split()).partition(" (Possible options")[0].rstrip(".")
    context = getattr(error, "ctx", None)
    wrong = getattr(error, "option_name", None)
    hint = None
    if wrong and context is not None:
        shown = (parameter for parameter in context.command.params if not getattr(parameter, "hidden", False))
        known = [name for parameter in shown for name in parameter.opts]
        hint = nearest(wrong, [*known, "--help"])
    elif message.startswith("No such command"):
        names = [command.name or _name(command.callback) for command in app.registered_commands]
        wrong = next((argument for argument in arguments if not argument.startswith("-")), "")
        hint = nearest(wrong, names)
    path = context.command_path if context is not None else "condgen"
    return f"{message}: did you mean {hint!r}?" if hint else f"{message}: see {path} --help"


def _name(callback: Callable[..., object] | None) -> str:
    return getattr(callback, "__name__", "")


def _fail(message: str, code: int) -> int:
    typer.echo(f"error: {message}", err=True)
    return code


def _run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    # `condgen train --verbose` is as good as `condgen --verbose train`.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    verbose = any(argument in VERBOSE_FLAGS for argument in arguments[:end])
    rest = [argument for i, argument in enumerate(arguments) if i >= end or argument not in VERBOSE_FLAGS]
    ordered = ["--verbose", *rest] if verbose else rest
    try:
        code = app(args=ordered, prog_name="condgen", standalone_mode=False)
    except TyperException as error:
        return _fail(_explain(error, rest), EXIT_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BUG
    except Exception as error:  # noqa: BLE001 - the one place where every error ends
        known = unwrap(error)
        if known is None or verbose:
            traceback.print_exc()
        if known is None:
            return _fail("this is a bug of condgen; the traceback is above", EXIT_BUG)
        if isinstance(known, Interrupted):
            typer.echo(str(known), err=True)
            return known.exit_code
        return _fail(str(known), known.exit_code)
    if code == EXIT_INTERRUPTED:
        typer.echo("stopped; run the same command again to go on", err=True)
    return int(code or 0)


def main() -> None:
    """Run the command line; this is the entry point of ``condgen``."""
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        oldest, newest = (".".join(map(str, version)) for version in PYTHONS)
        running = ".".join(map(str, sys.version_info[:2]))
        raise SystemExit(_fail(f"{sys.executable} is Python {running}; {oldest} to {newest} is needed", EXIT_USAGE))
    for stream in (sys.stdout, sys.stderr):  # a path that is no text is shown escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    raise SystemExit(_run(sys.argv[1:]))
