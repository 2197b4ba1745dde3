"""The commands of the batch job: ``colorize`` and ``translate``, which have their options in common."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from condgen.errors import ConfigError
from condgen.pretrained import DEFAULT_COLORIZER
from jobs.cli.datasets import examples, print_report

__all__ = ["add_batch_commands", "batch_size_of"]

Archive = Annotated[
    str,
    typer.Argument(metavar="ARCHIVE", help="A folder or prefix of images, .tar shards, or Parquet with images."),
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
Draws = Annotated[int, typer.Option(min=1, metavar="K", help="Outputs for each image.")]
Seed = Annotated[int, typer.Option(min=0, metavar="S", help="The draws' seed: another one, other draws.")]
Point = Annotated[bool, typer.Option("--point", help="The model's point prediction in place of draws; one an image.")]
Chroma = Annotated[
    float, typer.Option(min=0.0, metavar="C", help="Predicted colors times C: below 1 paler, above 1 stronger.")
]
Upsampling = Annotated[
    str,
    typer.Option(
        metavar="HOW",
        help="Color at full size: guided (by the image's own edges) or bilinear; auto is guided, or as RESULTS began.",
    ),
]
Temperature = Annotated[float, typer.Option(min=0.0, help="Below 1 the draws are tamer, above 1 wilder.")]
Steps = Annotated[int | None, typer.Option(min=1, metavar="N", help="Of diffusion's sampler (default: the model's).")]
Guidance = Annotated[
    float | None, typer.Option(min=0.0, metavar="S", help="Of diffusion: above 1 draws keep closer to the condition.")
]
Sampler = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of diffusion: heun, euler, ddim, ddpm or dpm-solver++.")
]
TopK = Annotated[int | None, typer.Option(min=1, metavar="N", help="Of autoregressive: draw among the N likeliest.")]
TopP = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, metavar="P", help="Of autoregressive: among those that hold P.")
]
BatchSize = Annotated[str, typer.Option(metavar="N|auto", help="Images in a batch of the model; auto measures.")]
Precision = Annotated[str, typer.Option(metavar="P", help="auto (bf16 where a GPU has it), fp32, bf16 or fp16.")]
Format = Annotated[
    str,
    typer.Option("--output-format", "--format", help="jpeg, png, webp or tiff; png and tiff keep 16 bits."),
]
Quality = Annotated[int, typer.Option(min=1, max=100, help="Of jpeg and webp.")]
Columns = Annotated[
    str | None,
    typer.Option(metavar="NAME[:TYPE],...", help="Copy these of each image's table row or JSON; string, int64, ..."),
]
ImageColumns = Annotated[
    str | None, typer.Option("--archive-columns", metavar="ROLE=COLUMN,...", help="Of a Parquet archive: image, key.")
]
Limit = Annotated[int, typer.Option(min=0, metavar="N", help="At most N images in all of RESULTS; 0 is no limit.")]
Where = Annotated[
    str | None, typer.Option(metavar="CONDITION", help='Only images whose listing holds it: "year < 1900".')
]
RetryErrors = Annotated[bool, typer.Option("--retry-errors", help="Do again what failed.")]
MaxErrorRate = Annotated[float, typer.Option(min=0.0, max=1.0, metavar="R", help="Stop when more of the images fail.")]
MaxPixels = Annotated[
    int, typer.Option(min=1, metavar="N", help="Refuse larger images; a worker needs about 40 bytes for each pixel.")
]
Chunk = Annotated[int, typer.Option(min=1, metavar="N", help="Most images in a chunk, the unit of commit.")]
Actors = Annotated[
    str,
    typer.Option(
        "--actors",
        "--workers",
        metavar="N|MIN:MAX",
        help="Model processes: MIN must fit now, more start as there is room; 0 is as many as fit.",
    ),
]
NumGpus = Annotated[float | None, typer.Option(min=0.0, metavar="G", help="GPUs for each actor, 0.5 say (default: 1).")]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="MODEL may be a file that is a program (.pt, .pt2).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan, the size and time expected, and stop.")]


def add_batch_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        short_help="K draws of each image of an archive, into Parquet.",
        epilog=examples(
            "condgen colorize photos/ results/",
            "condgen colorize s3://bucket/archive s3://bucket/results --draws 5 --seed 1",
            "condgen colorize photos/ results/ --model runs/first --dry-run",
            "condgen colorize photos/ results/ --retry-errors",
        ),
    )(colorize)
    app.command(
        short_help="An archive through an image-to-image model, into Parquet.",
        epilog=examples(
            "condgen translate maps/ results/ --model my_package.models:MapToPhoto --draws 1",
            "condgen translate s3://bucket/archive s3://bucket/results --model model.pt --trust-code --draws 1",
        ),
    )(translate)


def colorize(
    context: typer.Context,
    archive: Archive,
    results: Results,
    model: Colorizer = DEFAULT_COLORIZER,
    draws: Draws = 3,
    seed: Seed = 0,
    point: Point = False,
    temperature: Temperature = 1.0,
    chroma: Chroma = 1.0,
    upsampling: Upsampling = "auto",
    steps: Steps = None,
    guidance_scale: Guidance = None,
    sampler: Sampler = None,
    top_k: TopK = None,
    top_p: TopP = None,
    batch_size: BatchSize = "16",
    precision: Precision = "auto",
    output_format: Format = "jpeg",
    quality: Quality = 95,
    columns: Columns = None,
    archive_columns: ImageColumns = None,
    where: Where = None,
    limit: Limit = 0,
    retry_errors: RetryErrors = False,
    max_error_rate: MaxErrorRate = 1.0,
    max_pixels: MaxPixels = 200_000_000,
    chunk_samples: Chunk = 64,
    actors: Actors = "0",
    num_gpus: NumGpus = None,
    trust_code: TrustCode = False,
    dry_run: DryRun = False,
) -> None:
    """Colorize an archive: K draws of each image into Parquet, every image accounted for.

    An image that can't be done becomes a row of RESULTS/errors; images with draws and errors add up to the archive.
    The same command again does what is left, and what is new in the archive.
    """
    given = {name: value for name, value in locals().items() if name != "context"}
    _run("colorize", given, verbose=context.obj)


def translate(
    context: typer.Context,
    archive: Archive,
    results: Results,
    model: Model,
    direction: Annotated[str, typer.Option(metavar="D", help="Of a model that goes both ways: a2b or b2a.")] = "a2b",
    large: Annotated[
        str, typer.Option(metavar="HOW", help="Images larger than the model takes: tile (overlapping) or resize.")
    ] = "tile",
    overlap_px: Annotated[int, typer.Option(min=0, metavar="PX", help="Overlap of tiles.")] = 32,
    draws: Draws = 3,
    seed: Seed = 0,
    point: Point = False,
    temperature: Temperature = 1.0,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    sampler: Sampler = None,
    top_k: TopK = None,
    top_p: TopP = None,
    batch_size: BatchSize = "16",
    precision: Precision = "auto",
    output_format: Format = "jpeg",
    quality: Quality = 95,
    columns: Columns = None,
    archive_columns: ImageColumns = None,
    where: Where = None,
    limit: Limit = 0,
    retry_errors: RetryErrors = False,
    max_error_rate: MaxErrorRate = 1.0,
    max_pixels: MaxPixels = 200_000_000,
    chunk_samples: Chunk = 64,
    actors: Actors = "0",
    num_gpus: NumGpus = None,
    trust_code: TrustCode = False,
    dry_run: DryRun = False,
) -> None:
    """Translate an archive with an image-to-image model: K draws of each image into Parquet, all accounted for.

    Images keep their size and aspect: small ones are padded, large ones done in overlapping tiles.
    The same command again does what is left, and what is new in the archive.
    """
    given = {name: value for name, value in locals().items() if name != "context"}
    _run("translate", given, verbose=context.obj)


def _run(kind: str, given: dict[str, Any], *, verbose: bool) -> None:
    """Build the job of a command's options, and run it or show its plan."""
    from jobs import batch
    from pipelines.batch.archive import Selection
    from pipelines.batch.job import BatchJob
    from pipelines.datasets.row_filter import parse
    from pipelines.results.settings import BatchSettings

    taken = ("seed", "precision", "output_format", "quality", "max_pixels", "chunk_samples")
    sampling = ("temperature", "steps", "guidance_scale", "sampler", "top_k", "top_p")
    of_kind = ("direction", "large", "overlap_px") if kind == "translate" else ("chroma", "upsampling")
    settings = BatchSettings(
        kind=kind,
        draws=1 if given["point"] else given["draws"],
        mode="point" if given["point"] else "draw",
        batch_size=batch_size_of(given["batch_size"]),
        columns=_columns(given["columns"]),
        **{name: given[name] for name in (*taken, *sampling, *of_kind)},
    )
    roles = {}
    for word in _words(given["archive_columns"]):
        role, equals, column = word.partition("=")
        roles.update({role: column} if equals else {"image": role})
    selection = Selection(where=parse(given["where"]) if given["where"] else None, limit=given["limit"], columns=roles)
    job = BatchJob(
        archive=given["archive"],
        results=given["results"],
        model=given["model"],
        settings=settings,
        selection=selection,
        retry_errors=given["retry_errors"],
        trust_code=given["trust_code"],
        actors=_actors(given["actors"]),
        num_gpus=given["num_gpus"],
        max_error_rate=given["max_error_rate"],
    )
    print_report(batch.dry_run(job) if given["dry_run"] else batch.run(job, verbose=verbose))


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _columns(text: str | None) -> tuple[tuple[str, str], ...]:
    found = []
    for word in _words(text):
        name, _, kind = word.partition(":")
        found.append((name, kind or "string"))
    return tuple(found)


def batch_size_of(text: str) -> int:
    if text == "auto":
        from pipelines.results.settings import AUTO_BATCH

        return AUTO_BATCH
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError("--batch-size", text, "a whole number >= 1, or auto")
    return int(text)


def _actors(text: str) -> tuple[int, int] | None:
    least, colon, most = text.partition(":")
    numbers = (least, most if colon else least)
    if not all(number.isdecimal() for number in numbers):
        raise ConfigError("--actors", text, "a whole number, or MIN:MAX")
    low, high = map(int, numbers)
    if (low, high) == (0, 0):
        return None
    if not 1 <= low <= high:
        raise ConfigError("--actors", text, "MIN:MAX with 1 <= MIN <= MAX; 0 is as many as fit")
    return low, high
