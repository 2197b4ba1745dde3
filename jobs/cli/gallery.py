"""The command that shows results in a browser: ``gallery``."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import typer

from jobs.cli.datasets import examples
from pipelines.datasets.option_texts import read_size

__all__ = ["add_gallery_command"]


def add_gallery_command(app: typer.Typer) -> None:
    """Add the command."""
    epilog = examples(
        "condgen gallery results/",
        "condgen gallery s3://bucket/results --open",
        "condgen gallery results-a/ results-b/",
    )
    app.command(short_help="A local web page of results of any size.", epilog=epilog)(gallery)


def gallery(
    results: Annotated[str, typer.Argument(metavar="RESULTS", help="What condgen colorize or translate wrote.")],
    results_b: Annotated[
        str | None, typer.Argument(metavar="[RESULTS_B]", help="Other results of the same archive, side by side.")
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen at; others can reach one that is not loopback.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port (default: any that is free).")] = 0,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure colorfulness and how draws differ, without condgen evaluate.")
    ] = False,
    cache: Annotated[str, typer.Option(metavar="SIZE", help="Most bytes of thumbnails that are kept.")] = "1G",
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = False,
) -> None:
    """Show results in a browser: search, filters, orders, zoom, a slider, two results side by side.

    The server prints its address, which has a token that nobody else knows; Ctrl-C ends it. It reads only what is
    shown, from a folder or a bucket. Results that are not complete are shown as far as they are.
    """
    from jobs.results.gallery import GalleryOptions, run

    options = GalleryOptions(
        host=host, port=port, measure=measure, cache_bytes=read_size("--cache", cache), open_browser=open_browser
    )
    with suppress(KeyboardInterrupt):  # the way to end it
        run([results, *([results_b] if results_b else [])], options, _say)


def _say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()
