"""How images go into a model and come out again. Importing this imports no torch; see `condgen.options`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from condgen.checks import check_choice
from condgen.errors import ConfigError
from condgen.options import option

__all__ = ["AUTO", "ColorizeOptions", "TaskOptions", "TranslateOptions"]

AUTO = "auto"
"""An option that is left open until the results are begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorizeOptions:
    """How predicted color comes onto an image.

    Attributes:
        chroma: factor of the predicted ab (>= 0; below 1 colors are paler, above 1 stronger, 0 is grey).
        upsampling: way in which color comes to an image's own size, one of `pipelines.models.colorization.UPSAMPLING`;
            `AUTO` is guided, or what results that are gone on with were begun with.
        colors_on: `cpu`, or `gpu` to put color onto images there, where CPUs are few beside it.

    Raises:
        ConfigError: a value is not allowed.
    """

    chroma: float = option(1.0, "Predicted colors times C: below 1 paler, above 1 stronger.", metavar="C", min=0.0)
    upsampling: str = option(
        AUTO,
        "Color at full size: guided (by the image's own edges) or bilinear; auto is guided, or as RESULTS began.",
        metavar="HOW",
    )
    colors_on: str = option(
        "cpu", "Put color onto images on the cpu or, where CPUs are few, on the gpu.", metavar="WHERE"
    )

    def __post_init__(self) -> None:
        check_choice("colors_on", self.colors_on, ("cpu", "gpu"))
        if not 0.0 <= self.chroma < float("inf"):
            raise ConfigError("chroma", self.chroma, "a number >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslateOptions:
    """What translation does with images larger than the model takes.

    Attributes:
        large: `tile` or `resize`, see `pipelines.models.translation.TranslateTask`.
        overlap_px: overlap of neighboring tiles (pixels; >= 0).
    """

    large: str = option("tile", "Images larger than the model takes: tile (overlapping) or resize.", metavar="HOW")
    overlap_px: int = option(32, "Overlap of tiles.", metavar="PX", min=0)


TaskOptions: TypeAlias = ColorizeOptions | TranslateOptions
"""The options of a kind of job; which of them they are says the kind."""
