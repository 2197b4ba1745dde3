"""The options of a dataset and of its source. Importing this imports neither numpy nor PIL; see `condgen.options`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from condgen.checks import check_choice
from condgen.errors import ConfigError
from condgen.options import option
from pipelines.datasets.option_texts import read_roles, read_split

if TYPE_CHECKING:
    from pipelines.sharding.recipe import Recipe

__all__ = ["DEDUP_MODES", "MAX_DISTANCE", "ShardOptions", "SourceOptions"]

DEDUP_MODES = ("none", "exact", "near")

MAX_DISTANCE = 11
"""Most bits of 64 in which near duplicates may differ; farther ones are other images."""

_SPLIT_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What a source is taken for.

    Attributes:
        targets: folder of the targets, for pairs whose inputs are in the source (default: none).
        input_half: half of each image that is the input, for pairs that are side by side (default: none).
        taken_as: kind that the source is taken for, `images`, `parquet` or `table` (default: as it is found).
        roles: columns of a table by their roles, `pipelines.datasets.roles.ROLES` (default: as they are found).
    """

    targets: str | None = option(
        None, "Pairs: SOURCE has the inputs, FOLDER the targets, same names.", metavar="FOLDER"
    )
    input_half: str | None = option(
        None,
        "Pairs: each image has both; where the input is: left, right, top, bottom.",
        metavar="HALF",
        flags=("--side-by-side",),
    )
    taken_as: str | None = option(
        None, "What SOURCE is, of several kinds: images, parquet or table.", metavar="KIND", flags=("--as",)
    )
    roles: Mapping[str, str] | None = option(
        None,
        "Which column of a table is what: image, or input and target; caption, label, key.",
        metavar="ROLE=COLUMN,...",
        read=read_roles,
    )


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Options of a dataset: how it is cut, and what becomes of its images. It grows by the options it was made with.

    Attributes:
        split: share of each split, in the order of the hash; they add up to 1.
        resize_px, resize_mode, format, quality: options of ``pipelines.sharding.recipe.Recipe``.
        dedup: one of ``DEDUP_MODES``, which ``pipelines.sharding.dedup`` explains.
        near_distance: most bits of 64 in which the perceptual hashes of near duplicates differ.
        samples_per_shard: most samples in a shard.
        shard_bytes: most bytes of images in a shard of more than one sample.
        max_pixels: most pixels of an image; larger ones are rejected.
    """

    split: Mapping[str, float] = field(
        default_factory=lambda: {"train": 1.0},
        metadata={
            "help": "Splits and their shares, by a hash of each key; they add up to 1.",
            "metavar": "NAME=SHARE,...",
            "read": read_split,
            "default": "train=1.0",
        },
    )
    resize_px: int = option(0, "Make larger images smaller; 0 keeps them.", metavar="PX", min=0, flags=("--resize",))
    resize_mode: str = option(
        "short", "PX is the side of: short, fit (the longer one), square (cropped).", metavar="MODE"
    )
    format: str = option("", "Encode anew: jpeg, png or webp. Default: as they are.", metavar="FORMAT")
    quality: int = option(95, "Of jpeg and webp.", min=1, max=100)
    dedup: str = option("none", "Leave duplicates out: none, exact (bytes), near (alike).", metavar="HOW")
    near_distance: int = option(
        4, "Of 64, in which near duplicates may differ.", metavar="BITS", min=0, max=MAX_DISTANCE
    )
    samples_per_shard: int = option(1000, "Images in a tar file.", metavar="N", min=1)
    shard_bytes: int = 256 << 20
    max_pixels: int = 200_000_000

    def __post_init__(self) -> None:
        for name, share in self.split.items():
            if not _SPLIT_NAME.fullmatch(name):
                raise ConfigError("split", name, "names of lower-case letters, digits and _, such as train")
            if not 0 < share <= 1:
                raise ConfigError(f"split.{name}", share, "a share above 0, at most 1")
        if abs(sum(self.split.values()) - 1) > 1e-6:
            raise ConfigError("split", dict(self.split), "shares that add up to 1, such as train=0.9,test=0.1")
        if self.samples_per_shard < 1:
            raise ConfigError("samples_per_shard", self.samples_per_shard, "1 or more")
        check_choice("dedup", self.dedup, DEDUP_MODES)
        if not 0 <= self.near_distance <= MAX_DISTANCE:
            raise ConfigError("near_distance", self.near_distance, f"0 to {MAX_DISTANCE} bits")
        self.recipe()

    def recipe(self) -> Recipe:
        """Return the recipe by which images are stored."""
        from pipelines.sharding.recipe import Recipe

        return Recipe(
            resize_px=self.resize_px,
            resize_mode=self.resize_mode,
            format=self.format,
            quality=self.quality,
            max_pixels=self.max_pixels,
        )
