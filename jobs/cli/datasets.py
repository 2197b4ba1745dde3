"""The commands that make, describe and check datasets; `jobs.cli.app` adds them to its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Protocol

import typer

from condgen.errors import ConfigError

__all__ = ["add_commands", "examples", "parse_names", "parse_size", "parse_split", "print_report", "read_roles"]


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
        app.command(short_help=summary, epilog=epilog)(function)


def shard(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder or prefix of images, or a table (.parquet, .csv, .tsv, .jsonl)."
        ),
    ],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="The dataset to make, a folder or prefix.")],
    split: Annotated[
        str,
        typer.Option(
            metavar="NAME=SHARE,...", help="Splits and their shares, by a hash of each key; they add up to 1."
        ),
    ] = "train=1.0",
    targets: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Pairs: SOURCE has the inputs, FOLDER the targets, same names.")
    ] = None,
    side_by_side: Annotated[
        str | None,
        typer.Option(metavar="HALF", help="Pairs: each image has both; where the input is: left, right, top, bottom."),
    ] = None,
    unpaired: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Two domains: DEST/a of SOURCE, DEST/b of OTHER.")
    ] = None,
    taken_as: Annotated[
        str | None,
        typer.Option("--as", metavar="KIND", help="What SOURCE is, of several kinds: images, parquet or table."),
    ] = None,
    roles: Annotated[
        str,
        typer.Option(
            metavar="ROLE=COLUMN,...",
            help="Which column of a table is what: image, or input and target; caption, label, key.",
        ),
    ] = "",
    columns: Annotated[str, typer.Option(hidden=True, help="The name that --roles had in 0.1.")] = "",
    resize: Annotated[int, typer.Option(min=0, metavar="PX", help="Make larger images smaller; 0 keeps them.")] = 0,
    resize_mode: Annotated[
        str, typer.Option(metavar="MODE", help="PX is the side of: short, fit (the longer one), square (cropped).")
    ] = "short",
    image_format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="Encode anew: jpeg, png or webp. Default: as they are.")
    ] = "",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of jpeg and webp.")] = 95,
    dedup: Annotated[
        str, typer.Option(metavar="HOW", help="Leave duplicates out: none, exact (bytes), near (alike).")
    ] = "none",
    near_distance: Annotated[
        int, typer.Option(min=0, max=11, metavar="BITS", help="Of 64, in which near duplicates may differ.")
    ] = 4,
    samples_per_shard: Annotated[int, typer.Option(min=1, metavar="N", help="Images in a tar file.")] = 1000,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a dataset of other images or options that is there.")
    ] = False,
) -> None:
    """Make a dataset of WebDataset shards: tar files, a manifest and an index.

    The same images give the same bytes. Run again when the source has grown, it adds shards and leaves the old ones as
    they are; which split an image goes to depends on its key alone. What can't be used is listed in rejected.parquet.
    """
    shares = parse_split(split)
    chosen = read_roles(roles or columns)
    from jobs.datasets.shard import run, run_unpaired
    from pipelines.sharding.assignment import ShardOptions

    options = ShardOptions(
        split=shares,
        samples_per_shard=samples_per_shard,
        resize_px=resize,
        resize_mode=resize_mode,
        format=image_format,
        quality=quality,
        dedup=dedup,
        near_distance=near_distance,
    )
    if unpaired is not None:
        if targets or side_by_side:
            raise ConfigError("--unpaired", unpaired, "neither --targets nor --side-by-side, which make pairs")
        for report in run_unpaired(
            source,
            unpaired,
            dest,
            options=options,
            columns=chosen,
            taken_as=taken_as,
            overwrite=overwrite,
            verbose=context.obj,
        ):
            print_report(report)
        return
    print_report(
        run(
            source,
            dest,
            options=options,
            targets=targets,
            input_half=side_by_side,
            columns=chosen,
            taken_as=taken_as,
            overwrite=overwrite,
            verbose=context.obj,
        )
    )


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
    names = parse_names("--member", ",".join(members) if members else None)
    from jobs.datasets.index import run

    print_report(
        run(
            dataset,
            out=out,
            member_names=names,
            statistics=statistics,
            overwrite=overwrite,
            verbose=context.obj,
        )
    )


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


def parse_split(text: str) -> dict[str, float]:
    """``train=0.9,test=0.1`` as names and shares.

    Raises:
        ConfigError: the text has another form.
    """
    form = "NAME=SHARE,NAME=SHARE, such as train=0.9,test=0.1"
    shares: dict[str, float] = {}
    for name, share in _pairs("--split", text, form):
        try:
            shares[name] = float(share)
        except ValueError:
            raise ConfigError("--split", text, form) from None
    return shares


def parse_names(option: str, text: str | None) -> dict[str, str]:
    """``input=a,target=b`` as a mapping; none of no text.

    Raises:
        ConfigError: the text has another form.
    """
    return dict(_pairs(option, text, "NAME=OTHER, such as input=cond")) if text else {}


def parse_size(option: str, text: str) -> int:
    """``50G`` as bytes; K, M, G and T are powers of 1024.

    Raises:
        ConfigError: the text has another form.
    """
    match = re.fullmatch(r"(\d+)\s*([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    if match is None or int(match[1]) == 0:
        raise ConfigError(option, text, "a size such as 500M, 50G or 2T")
    return int(match[1]) << (10 * " KMGT".index(match[2].upper() or " "))


def read_roles(text: str) -> dict[str, str]:
    """``image=photo,key=id`` as columns by role; a column alone is the image's.

    Raises:
        ConfigError: a role is there twice, or has no column.
    """
    roles: dict[str, str] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        role, equals, column = (part.strip() for part in word.partition("="))
        role, column = (role, column) if equals else ("image", role)
        if not role or not column or role in roles:
            raise ConfigError("--roles", text, "ROLE=COLUMN,... with each role once, such as image=photo,key=id")
        roles[role] = column
    return roles


def _pairs(option: str, text: str, form: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if not name or not value or name in dict(pairs):
            raise ConfigError(option, text, form)
        pairs.append((name, value))
    return pairs
