r"""The names of images that are written as files: the archive's own, safe in any place, and never two the same.

The rule, for an image of `source` (a file or a shard, relative to the archive) and `key`:

1. Of loose files it is the file's own path, with the extension of its format: `album/0042.jpg`.
2. Of shards and tables it is the key. Where any key is in two of them, every image is in a folder of its shard's own
   path without its extension: `train-000003/0042.jpg`.
3. What no file system takes is mended, and ten digits of the SHA-256 of source and key come after it: empty parts, `.`
   and `..` are left out, so that no name leads out of its folder; control characters and `\` become `_`, and so does
   a dot at the beginning of a part; parts are cut to what a name may have. A folder is not called like an image: `_`
   comes after its name if that ends in the images' extension.
4. Names that are the same but for capitals: the first in the order of the plans keeps its name. Others of loose files
   keep their own extension too (`0042.png.jpg`); where that is taken, and for others, it is `0042~2.jpg`, `~3`, ...
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Identity", "Names", "Stem", "name_images", "stem_digest", "stem_of"]

_LEAF_BYTES = 200
_FOLDER_BYTES = 240
_TOTAL_BYTES = 900
_UNSAFE = re.compile("[\\x00-\\x1f\\x7f\\\\\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Identity:
    """An image: its source, its key, and whether the source is the image's own file."""

    source: str
    key: str
    is_loose: bool


@dataclass(frozen=True, slots=True)
class Stem:
    """A name without its extension, with `/` between its parts, and whether it is another one than the archive's."""

    text: str
    is_mended: bool = False


def stem_of(image: Identity, *, by_shard: bool, suffix: str) -> Stem:
    """Return the name that an image has by rules 1 to 3 of the module.

    Args:
        image: an image of the results.
        by_shard: whether images of shards are in folders of their shards.
        suffix: extension of the images, without a dot.
    """
    whole = f"{_without_extension(image.source)}/{image.key}" if by_shard and not image.is_loose else image.key
    return _mended(whole, f"{image.source}\0{image.key}", suffix)


def _mended(whole: str, identity: str, suffix: str) -> Stem:
    *folders, leaf = [part for part in whole.split("/") if part not in ("", ".", "..")] or ["picture"]
    parts = [*(_part(folder, _FOLDER_BYTES, suffix) for folder in folders), _part(leaf, _LEAF_BYTES)]
    text = "/".join(parts)
    if len(text.encode()) > _TOTAL_BYTES:
        text = parts[-1]
    if text == whole:
        return Stem(text)
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return Stem(f"{text}~{digest}", is_mended=True)


def _part(part: str, most_bytes: int, folder_suffix: str | None = None) -> str:
    part = _UNSAFE.sub("_", part)
    if part.startswith("."):
        part = f"_{part[1:]}"
    part = part.encode()[:most_bytes].decode(errors="ignore")
    if folder_suffix is not None and part.casefold().endswith(f".{folder_suffix}"):
        part += "_"
    return part


def _without_extension(name: str) -> str:
    stem, _, extension = name.rpartition(".")
    return stem if stem and "/" not in extension else name


def stem_digest(text: str) -> int:
    """Return 64 bits of a name, the same for names that differ in capitals alone."""
    return int.from_bytes(hashlib.blake2b(text.casefold().encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class Names:
    """How images are named.

    Attributes:
        by_shard: whether images of shards are in folders of their shards.
        others: names that rule 4 gives to images, by chunk and by their places among its images.
    """

    by_shard: bool
    others: Mapping[str, Mapping[int, str]]


Digests = Mapping[str, tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]]
"""By chunk, in the order of the plans: the digest of each image's name, without and with its shard's folder."""


def name_images(digests: Digests, identities: Callable[[str], Sequence[Identity]], suffix: str) -> Names:
    """Find whether keys repeat across shards, and names that are not those of rules 1 to 3.

    Args:
        digests: digests of all images' names, which take eight bytes an image and layout of memory.
        identities: function that reads those of a chunk; it is called for chunks with a name that is there twice.
        suffix: extension of the images.
    """
    if not digests:
        return Names(by_shard=False, others={})
    flat, nested = (np.concatenate([pair[layout] for pair in digests.values()]) for layout in (0, 1))
    order = np.argsort(flat, kind="stable")
    same = flat[order][1:] == flat[order][:-1]
    by_shard = bool((same & (nested[order][1:] != nested[order][:-1])).any())
    every = np.sort(nested if by_shard else flat)
    twice = np.unique(every[1:][every[1:] == every[:-1]])
    place = 1 if by_shard else 0
    while len(twice):
        chunks = ((name, np.flatnonzero(np.isin(pair[place], twice)).tolist()) for name, pair in digests.items())
        touched = ((name, places, identities(name)) for name, places in chunks if places)
        found, digests_given = _apart(touched, by_shard, suffix)
        # A name that was given and is an image's own: which comes first is seen when both are looked at.
        contested = np.setdiff1d(np.intersect1d(digests_given, every), twice)
        if not len(contested):
            return Names(by_shard, found)
        twice = np.union1d(twice, contested)
    return Names(by_shard, {})


def _apart(
    chunks: Iterable[tuple[str, list[int], Sequence[Identity]]], by_shard: bool, suffix: str
) -> tuple[dict[str, dict[int, str]], npt.NDArray[np.uint64]]:
    """Apply rule 4 to the images at some places of some chunks, and return names and the digests of the names."""
    seen: set[str] = set()
    numbers: dict[str, Iterator[int]] = {}
    found: dict[str, dict[int, str]] = {}
    for name, places, identities in chunks:
        for place in places:
            image = identities[place]
            stem = stem_of(image, by_shard=by_shard, suffix=suffix).text
            if stem.casefold() in seen:
                others = _others(stem, image, suffix, numbers.setdefault(stem.casefold(), itertools.count(2)))
                stem = next(one for one in others if one.casefold() not in seen)
                found.setdefault(name, {})[place] = stem
            seen.add(stem.casefold())
    given = [stem_digest(stem) for others in found.values() for stem in others.values()]
    return found, np.array(given, np.uint64)


def _others(stem: str, image: Identity, suffix: str, numbers: Iterator[int]) -> Iterator[str]:
    if image.is_loose:
        yield _mended(image.source, f"{image.source}\0{image.key}", suffix).text
    yield from (f"{stem}~{number}" for number in numbers)
