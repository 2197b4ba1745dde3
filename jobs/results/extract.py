"""`condgen extract`: the extractions of `pipelines.results.extraction`, with their progress shown."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from condgen.errors import ConfigError
from jobs.cli.progress import Progress
from pipelines.cluster.starting import ray_cluster
from pipelines.results.extraction.job import ExtractReport, extract_results
from pipelines.results.extraction.selected import SelectedReport, extract_selected, read_keys
from pipelines.storage.store import open_store

__all__ = ["listed_images", "run", "run_selected"]


def run(
    results: str, destination: str, *, draw: int | None = 0, overwrite: bool = False, verbose: bool = False
) -> ExtractReport:
    """Write the images of complete results as files.

    Raises:
        As `pipelines.results.extraction.job.extract_results`.
    """
    with Progress("extracting", total=None, unit="images") as bar:
        return extract_results(
            results,
            destination,
            draw=draw,
            overwrite=overwrite,
            cluster=lambda: ray_cluster(verbose=verbose),
            watch=bar.show,
        )


def run_selected(
    results: str,
    destination: str,
    images: Sequence[tuple[str | None, str]],
    *,
    draw: int | None = 0,
    overwrite: bool = False,
) -> SelectedReport:
    """Write the images of some keys as files.

    Raises:
        As `pipelines.results.extraction.selected.extract_selected`.
    """
    with Progress("looking", total=None, unit="chunks") as bar:
        return extract_selected(results, destination, images, draw=draw, overwrite=overwrite, watch=bar.show)


def listed_images(keys: Sequence[str], source: str | None, file: str | None) -> list[tuple[str | None, str]]:
    """Return the images that options name.

    Args:
        keys: keys, one an option.
        source: source of these; None for any.
        file: place of a file with a line an image (`pipelines.results.extraction.selected.read_keys`); `-` for stdin.

    Raises:
        ConfigError: the file names no image, or is no text.
        MissingError, StorageError: the file can't be read.
    """
    found: list[tuple[str | None, str]] = [(source, key) for key in keys]
    if file is not None:
        try:
            text = sys.stdin.read() if file == "-" else _read(file).decode()
        except UnicodeDecodeError as error:
            raise ConfigError("--keys", file, "a text in UTF-8") from error
        listed = read_keys(text.split("\n"))
        if not listed:
            raise ConfigError("--keys", file, "a line for each image: KEY, or SOURCE, a tab and KEY")
        found += listed
    return found


def _read(file: str) -> bytes:
    folder, slash, name = file.rpartition("/")
    return open_store((folder or slash) if slash else ".").read(name)
