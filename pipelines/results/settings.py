"""The options that decide the bytes of a batch job's results. Importing this imports neither torch nor pyarrow.

A field whose metadata has `help` is an option of the command line, as `condgen.options` says; one whose metadata has
`heading` begins a group of the help, and a dataclass of options is a group of its own. In a plan's JSON the options of
all groups lie side by side under their fields' names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from condgen.checks import check_choice
from condgen.errors import ConfigError
from condgen.options import SampleOptions, option
from pipelines.models.options import AUTO, ColorizeOptions, TaskOptions, TranslateOptions

__all__ = ["AUTO_BATCH", "AUTO_DRAWS", "BEFORE", "UNNAMED", "BatchSettings", "OutputOptions", "read_columns"]

T = TypeVar("T")

AUTO_BATCH = 0
"""A batch size that is to be found by a probe."""

AUTO_DRAWS = 0
"""A number of draws that the model decides: `DEFAULT_DRAWS`, or 1 of a point prediction."""

DEFAULT_DRAWS = 3

OUTPUT_FORMATS = ("jpeg", "png", "webp", "tiff")
"""The keys of `pipelines.images.encoding.SUFFIXES`."""

BEFORE: Mapping[str, Any] = {"upsampling": "bilinear"}
"""What plans of before an option was there were made with, where it isn't the option's default now."""

UNNAMED: Mapping[str, Any] = {"colors_on": "cpu", "noise_on": "cpu", "encode_on": "cpu"}
"""What a plan does not name: options that came later, at their defaults. So the bytes of plans and draws files stay."""


def read_columns(text: str) -> tuple[tuple[str, str], ...]:
    """Return the names and types in `NAME[:TYPE],...`; a type that is not named is `string`.

    Raises:
        ConfigError: it has another form.
    """
    if "=" in text:
        allowed = "NAME[:TYPE],... to be copied into the results; which column is the image's, --roles image=NAME says"
        raise ConfigError("--columns", text, allowed)
    words = (word.strip().partition(":") for word in text.split(",") if word.strip())
    return tuple((name, kind or "string") for name, _, kind in words)


def read_batch_size(text: str) -> int:
    """Return the batch size in `N|auto`.

    Raises:
        ConfigError: it is neither.
    """
    if text == AUTO:
        return AUTO_BATCH
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError("--batch-size", text, "a whole number >= 1, or auto")
    return int(text)


def read_member(text: str) -> str:
    """Return the member's name in `NAME`, or in `image=NAME` as `condgen train` has it."""
    return text.removeprefix("image=")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """How images are written.

    Attributes:
        output_format: jpeg, png, webp or tiff.
        quality: quality of jpeg and webp (1 to 100); see `pipelines.images.encoding.encode`.
        encode_on: `cpu`, or `gpu` to encode JPEGs there by nvJPEG, where CPUs are few beside it.
        columns: names and Arrow types of what is copied from a table or a sample's JSON into the results.

    Raises:
        ConfigError: a value is not allowed.
    """

    output_format: str = option(
        "jpeg", "jpeg, png, webp or tiff; png and tiff keep 16 bits.", flags=("--output-format", "--format")
    )
    quality: int = option(95, "Quality of jpeg and webp.", min=1, max=100)
    encode_on: str = option("cpu", "Encode JPEGs on the cpu or, where CPUs are few, on the gpu.", metavar="WHERE")
    columns: tuple[tuple[str, str], ...] = option(
        (),
        "Copy these of each image's table row or JSON; string, int64, ...",
        metavar="NAME[:TYPE],...",
        read=read_columns,
    )

    def __post_init__(self) -> None:
        check_choice("output_format", self.output_format, OUTPUT_FORMATS)
        if not 1 <= self.quality <= 100:
            raise ConfigError("quality", self.quality, "1 to 100")
        check_choice("encode_on", self.encode_on, ("cpu", "gpu"))
        if self.encode_on == "gpu" and self.output_format != "jpeg":
            raise ConfigError("encode_on", "gpu", f"cpu for {self.output_format}: a GPU encodes jpeg alone")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """All options that decide the bytes of the results; a plan holds them.

    Attributes:
        kind: `colorize` (ab onto the image's own L) or `translate` (image to image).
        draws: K, outputs for each image (>= 1; `AUTO_DRAWS` until the model has decided it).
        seed: seed of the draws (>= 0).
        batch_size: images in a batch of the model, always padded to it (>= 1; `AUTO_BATCH` until it is found).
        precision: fp32, bf16 or fp16; `auto` until it is decided.
        noise_on: `cpu`, or `gpu` to make the draws' noise there; a draw may then differ in its last bits.
        sample, colorize, translate, output: options of the model, of each kind of job, and of the images written.
        member: name of the member of each sample that is the image (default: the only one that is an image).
        functions: digest of the user's own functions before and after the model; empty without any.
        max_pixels: pixels above which an image is refused, as decompression bombs are.
        chunk_samples: most images in a chunk.
    """

    kind: str = "colorize"
    draws: int = option(
        AUTO_DRAWS,
        "Outputs for each image (default: 3; 1 of a model without noise; or as RESULTS began).",
        metavar="K",
        min=1,
        default=None,
        heading="Sampling",
    )
    seed: int = option(0, "The draws' seed: another one, other draws.", metavar="S", min=0, heading="Sampling")
    batch_size: int = option(
        16,
        "Images in a batch of the model; auto measures.",
        metavar="N|auto",
        read=read_batch_size,
        default="16",
        heading="Resources",
    )
    precision: str = option(
        "fp32", "auto (bf16 where a GPU has it), fp32, bf16 or fp16.", metavar="P", default=AUTO, heading="Resources"
    )
    noise_on: str = option(
        "cpu",
        "Make the draws' noise on the cpu or, where CPUs are few, on the gpu.",
        metavar="WHERE",
        heading="Resources",
    )
    sample: SampleOptions = field(default_factory=SampleOptions, metadata={"heading": "Sampling"})
    colorize: ColorizeOptions = field(default_factory=ColorizeOptions, metadata={"heading": "Output"})
    translate: TranslateOptions = field(default_factory=TranslateOptions, metadata={"heading": "Output"})
    output: OutputOptions = field(default_factory=OutputOptions, metadata={"heading": "Output"})
    member: str = field(
        default="",
        metadata={
            "help": "The member of each sample that is the image (default: the only one that is).",
            "metavar": "NAME",
            "read": read_member,
            "heading": "Selection",
        },
    )
    functions: str = ""
    max_pixels: int = option(
        200_000_000,
        "Refuse larger images; a worker needs about 40 bytes for each pixel.",
        metavar="N",
        min=1,
        heading="Selection",
    )
    chunk_samples: int = option(
        64, "Most images in a chunk, the unit of commit.", metavar="N", min=1, heading="Resources"
    )

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("colorize", "translate"))
        check_choice("noise_on", self.noise_on, ("cpu", "gpu"))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BatchSettings:
        """Return the settings that a plan holds.

        Raises:
            TypeError: a name that no option has.
        """
        remaining = {**BEFORE, **values, "columns": tuple(map(tuple, values["columns"]))}
        settings = _build(cls, remaining)
        if remaining:
            raise TypeError(f"no options: {', '.join(remaining)}")
        return settings

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a plan holds them: a flat object, without what is as `UNNAMED` says."""
        values = {name: value for name, value in _flat(self) if (name, value) not in UNNAMED.items()}
        return {**values, "columns": [list(column) for column in values["columns"]]}

    @property
    def task_options(self) -> TaskOptions:
        """The options of the job's own kind, as `pipelines.models.source.image_task` takes them."""
        return self.translate if self.kind == "translate" else self.colorize

    def as_point(self) -> BatchSettings:
        """Return the settings for the model's point prediction, one an image."""
        return replace(self, draws=1, sample=replace(self.sample, mode="point"))

    def settle(self, begun: BatchSettings | None, functions: str) -> BatchSettings:
        """Return the settings with what was left open as it was decided when the results were begun.

        New results have no such decision: their upsampling is guided, and the rest is decided beside the model.

        Args:
            begun: settings that the results were begun with; None for new results.
            functions: digest of the user's own functions.
        """
        upsampling = self.colorize.upsampling
        if upsampling == AUTO:
            upsampling = begun.colorize.upsampling if begun else "guided"
        begun = begun or self
        return replace(
            self,
            functions=functions,
            colorize=replace(self.colorize, upsampling=upsampling),
            draws=self.draws or begun.draws,
            batch_size=self.batch_size or begun.batch_size,
            precision=begun.precision if self.precision == AUTO else self.precision,
        )

    def settle_draws(self, *, is_stochastic: bool) -> BatchSettings:
        """Return the settings with a number of draws: `DEFAULT_DRAWS` of a model that draws, if none was named."""
        several = is_stochastic and self.sample.mode == "draw"
        return replace(self, draws=self.draws or (DEFAULT_DRAWS if several else 1))


def _flat(options: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a dataclass of options, those of its groups in their place."""
    for one in fields(options):
        value = getattr(options, one.name)
        if is_dataclass(value):
            yield from _flat(value)
        else:
            yield one.name, value


def _build(kind: type[T], values: dict[str, Any]) -> T:
    """Build a dataclass of options from the values that are its own or its groups', which are taken out."""
    chosen: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        nested: Any = one.default_factory
        if isinstance(nested, type) and is_dataclass(nested):
            chosen[one.name] = _build(nested, values)
        elif one.name in values:
            chosen[one.name] = values.pop(one.name)
    return kind(**chosen)
