"""`condgen report --card`: a dataset card for results that are uploaded to a hub, as Hugging Face's hub reads it.

The front matter names the Parquet files and the features of their columns, so that `datasets.load_dataset` of the
folder gives images, of results of earlier versions too. What comes from the data is escaped: YAML by its writer,
Markdown by `plain`. Folders are named by their last part alone: the card is for other people's eyes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from condgen.errors import ConfigError, DatasetError
from condgen.pretrained import DEFAULT_COLORIZER
from jobs.report.evaluation import read_section
from jobs.report.output import open_output
from jobs.viewer.visible import visible
from pipelines.datasets.chunk import ERRORS_SCHEMA
from pipelines.evaluation.stored import PARQUET_NAME
from pipelines.results.files import draws_schema, features_of
from pipelines.results.plan import load_plans
from pipelines.storage.store import Store, open_store

__all__ = ["Card", "front_matter", "plain", "run_card"]

CARD_NAME = "README.md"
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
    (10_000_000_000, "1B<n<10B"),
    (100_000_000_000, "10B<n<100B"),
    (1_000_000_000_000, "100B<n<1T"),
)
_LICENSE = (
    "# license: to be filled in by whoever owns the images, before anything is uploaded. Draws are made of the\n"
    "# archive's images, and which license they may have depends on those, and on the model.\n"
)
_COLUMNS = {
    "source": "the shard, table or file of the archive that the image is from",
    "key": "the image's key in its source",
    "draw": "number of the draw, from 0",
    "seed": "seed of the draws",
    "image": "the draw, an encoded image and the name it would have as a file",
    "width": "width of the draw (px)",
    "height": "height of the draw (px)",
    "source_sha256": "SHA-256 of the image in the archive",
    "image_sha256": "SHA-256 of the draw as it is stored",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card that was written."""

    path: str

    def lines(self) -> list[str]:
        """Return the summary."""
        return [f"card          {self.path}", "to do         its license: see the comment in its first lines"]


def run_card(results: str, out: str | None = None) -> Card:
    """Write the dataset card of a batch job's results.

    Args:
        results: a folder or prefix that `condgen colorize` or `translate` wrote to completion.
        out: the file, a local path or a URI; `README.md` in the results by default.

    Raises:
        ConfigError: there is another file of that name, which its owner may have filled in.
        DatasetError: the results are not complete.
        StorageError: they, or the card, can't be read or written.
    """
    store = open_store(results)
    card = _render(store, results).encode()
    place, name = open_output(store, CARD_NAME, out)
    if place.is_file(name) and place.read(name) != card:
        raise ConfigError("--out", place.locate(name), "a name that is not taken: delete that file to write it anew")
    place.write(name, card)
    return Card(path=out or place.locate(name))


def front_matter(run: Mapping[str, Any], *, has_evaluation: bool) -> str:
    """Return the YAML at the head of a card, without a license.

    Args:
        run: content of run.json.
        has_evaluation: whether evaluation.parquet lies beside the results.
    """
    settings, counts = run["settings"], run["counts"]
    is_color = settings.get("kind", "colorize") == "colorize"
    kinds = {"draws": draws_schema(_copied(settings))}
    files = {"draws": "draws/*.parquet"}
    if counts["errors"]:  # the hub takes a table without rows for no data at all
        kinds["errors"] = ERRORS_SCHEMA
        files["errors"] = "errors/*.parquet"
    if has_evaluation:
        files["evaluation"] = PARQUET_NAME
    configs = [
        {"config_name": name, "data_files": [{"split": "train", "path": path}], "default": name == "draws"}
        for name, path in files.items()
    ]
    facts = {
        "pretty_name": visible(_title(run)),
        "task_categories": ["image-to-image"],
        "size_categories": [_size(counts["draws"])],
        "tags": ["condgen", "colorization" if is_color else "image-translation", "synthetic", "parquet"],
        "configs": configs,
        "dataset_info": [
            {"config_name": name, "features": [_feature(*one) for one in features_of(schema).items()]}
            for name, schema in kinds.items()
        ],
    }
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=False, width=110)


def plain(text: object) -> str:
    """Return a text that Markdown shows letter by letter, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$@^=])", r"\\\1", visible(text))


def _render(store: Store, results: str) -> str:
    store.require()
    plans = load_plans(store)
    if not plans or not store.exists("run.json"):
        raise DatasetError(f"{results} is not complete: run condgen colorize or translate to its end, then the card")
    try:
        run = json.loads(store.read("run.json"))
    except ValueError as error:
        raise DatasetError(f"{results}/run.json is damaged: delete it and run the job again") from error
    environment = Environment(
        loader=PackageLoader("jobs"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": plain, "count": lambda number: f"{number:,}"}
    copied = _copied(run["settings"])
    return environment.get_template("card.md.j2").render(
        head=_LICENSE + front_matter(run, has_evaluation=store.is_file(PARQUET_NAME)),
        title=_title(run),
        run=run,
        archive=_last_part(run["archive"]),
        model=_last_part(run["model"]["uri"]),
        is_shipped=run["model"]["uri"] == DEFAULT_COLORIZER,
        is_color=run["settings"].get("kind", "colorize") == "colorize",
        is_point=run["settings"].get("mode") == "point",
        settings=_settings(run["settings"]),
        columns=[*_COLUMNS.items(), *((name, f"copied from the archive, {kind}") for name, kind in copied)],
        evaluation=read_section(store),
    )


def _title(run: Mapping[str, Any]) -> str:
    done = "colorized" if run["settings"].get("kind", "colorize") == "colorize" else "translated"
    return f"{_last_part(run['archive'])}, {done} by condgen"


def _last_part(uri: str) -> str:
    """Return the last part of a path: what stands before it may tell of a machine or a bucket."""
    return str(uri).rstrip("/").rpartition("/")[2] or str(uri)


def _settings(settings: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    return [(name, value) for name, value in sorted(settings.items()) if value not in ("", [], None)]


def _copied(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the names and types of the columns that were copied from the archive."""
    return [(name, kind) for name, kind in settings.get("columns", ())]


def _size(rows: int) -> str:
    return next((name for most, name in _SIZES if rows < most), "n>1T")


def _feature(name: str, feature: Mapping[str, str]) -> dict[str, str]:
    """Return a feature as the hub's front matter has it."""
    return {"name": name, "dtype": "image" if feature["_type"] == "Image" else feature["dtype"]}
