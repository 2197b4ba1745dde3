"""Duplicates among samples: those of equal bytes, and those whose images look alike.

Samples are looked at in the order of their keys, those that a dataset has already first. One is a duplicate of the
first sample before it that was kept and has its bytes, or whose perceptual hash is within the threshold. So what is
kept has no two that are within it, whatever the number of workers, and none of them can be in two splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condgen.errors import ImageError
from pipelines.images.decoding import decode
from pipelines.sharding.recipe import half_of
from pipelines.sharding.sources import Record, read_part
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

__all__ = ["Fingerprint", "close_pairs", "find_duplicates", "fingerprint", "perceptual_hash"]

_HASHED_SIZE_PX = 64
_BANDS, _BAND_BITS = 4, 16
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A sample's key, the SHA-256 of its source's bytes, and the perceptual hash of its (target) image."""

    key: str
    sha256: str
    phash: int | None = None


def perceptual_hash(rgb: NDArray[np.uint8]) -> int:
    """Return the 64-bit DCT hash of ``[H, W, 3]`` uint8 (imagehash's ``phash``)."""
    import imagehash

    bits = imagehash.phash(Image.fromarray(rgb)).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def fingerprint(
    stores: tuple[Store, ...],
    samples: Sequence[tuple[str, Record]],
    near: bool,
    max_pixels: int,
    neighbors: Neighbors | None = None,
) -> list[Fingerprint]:
    """Read samples, given as (key, record), and return their fingerprints; what can't be read has none.

    Raises:
        StorageError, JobError: as in ``pipelines.sharding.sources.read_part``.
    """
    neighbors = neighbors or Neighbors()
    found = []
    for key, record in samples:
        try:
            datas = [read_part(stores, part, neighbors) for part in record.parts]
            phash = None
            if near:
                part = record.parts[-1]  # of a pair, the target: it is what a model must not have seen
                rgb = decode(datas[-1], min_size_px=_HASHED_SIZE_PX, max_pixels=max_pixels)
                phash = perceptual_hash(half_of(rgb, part.half) if part.half else rgb)
        except ImageError:
            continue  # its writer rejects it, with the reason
        found.append(Fingerprint(key, content_digest(datas), phash))
    return found


def content_digest(datas: Sequence[bytes]) -> str:
    """Return the SHA-256 of a sample's files: of the one, or of the digests of both."""
    digests = [hashlib.sha256(data).digest() for data in datas]
    return digests[0].hex() if len(digests) == 1 else hashlib.sha256(b"".join(digests)).hexdigest()


def find_duplicates(
    kept: Sequence[Fingerprint], found: Sequence[Fingerprint], max_distance: int | None
) -> Mapping[str, tuple[str, int]]:
    """Return the duplicates among the fingerprints that were found.

    Args:
        kept: fingerprints of the samples that the dataset has; these stay.
        found: fingerprints of the samples that are to be added.
        max_distance: most bits in which the hashes of near duplicates differ; None asks for equal bytes alone.

    Returns:
        For the key of each duplicate, the key of the sample that it is a duplicate of, and their distance in bits (-1
        where the bytes are equal).
    """
    ordered = [*kept, *sorted(found, key=lambda item: item.key)]
    first: dict[str, str] = {}
    duplicates: dict[str, tuple[str, int]] = {}
    for place, item in enumerate(ordered):
        if item.sha256 not in first:
            first[item.sha256] = item.key
        elif place >= len(kept):
            duplicates[item.key] = first[item.sha256], -1
    if max_distance is not None:
        rest = [item for place, item in enumerate(ordered) if item.phash is not None and item.key not in duplicates]
        duplicates |= _near_duplicates(rest, {item.key for item in kept}, max_distance)
    for key, (original, distance) in duplicates.items():
        if original in duplicates:  # the first of these bytes is a near duplicate itself
            duplicates[key] = duplicates[original][0], distance
    return duplicates


def _near_duplicates(items: Sequence[Fingerprint], kept: set[str], max_distance: int) -> dict[str, tuple[str, int]]:
    """Return near duplicates among items in order; those of ``kept`` are none, whatever is before them."""
    # Equal hashes share one fate: only the first of each is compared, so that a thousand black images cost one.
    groups: dict[int, list[str]] = {}
    for item in items:
        if item.phash is not None:
            groups.setdefault(item.phash, []).append(item.key)
    leaders: list[str | None] = [group[0] for group in groups.values()]
    nearest_to: dict[int, tuple[int, int]] = {}
    hashes = np.fromiter(groups, np.uint64, len(groups))
    pairs = _sorted_pairs(close_pairs(hashes, max_distance))
    for left, right, distance in pairs:  # by right, then by left: all that is before an item is decided
        settled = leaders[right] in kept or right in nearest_to
        if not settled and left not in nearest_to:
            nearest_to[right] = left, distance
    duplicates: dict[str, tuple[str, int]] = {}
    for place, group in enumerate(groups.values()):
        left, distance = nearest_to.get(place, (place, 0))
        original = leaders[left]
        for key in group:
            if key not in kept and key != original and original is not None:
                duplicates[key] = original, distance
    return duplicates


def _sorted_pairs(blocks: Iterator[NDArray[np.int64]]) -> list[tuple[int, int, int]]:
    parts = list(blocks)
    if not parts:
        return []
    pairs = np.unique(np.concatenate(parts), axis=0)
    return [tuple(row) for row in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))].tolist()]


def close_pairs(hashes: NDArray[np.uint64], max_distance: int) -> Iterator[NDArray[np.int64]]:
    """Yield the pairs of 64-bit hashes that differ in at most ``max_distance`` bits, some of them more than once.

    Multi-index hashing (Norouzi, Punjani, Fleet 2012): of two hashes within distance d, one of 4 bands of 16 bits
    differs in at most d // 4 bits, so that only what falls into those buckets is compared: of 10^6 hashes each with
    15 others for each band and each of the 1, 17 or 137 neighbors of a bucket (d < 4, < 8, < 12), not with 10^6.

    Args:
        hashes: ``[N]`` uint64, all different.
        max_distance: 0 to ``MAX_DISTANCE``.

    Yields:
        ``[M, 3]`` int64: two indices, the smaller one first, and the distance.
    """
    radius = max_distance // _BANDS
    masks = [mask for mask in range(1 << _BAND_BITS) if mask.bit_count() <= radius]
    for band in range(_BANDS):
        values = ((hashes >> np.uint64(band * _BAND_BITS)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(values, kind="stable")
        starts = np.searchsorted(values[order], np.arange((1 << _BAND_BITS) + 1))
        for mask in masks:
            # Of two different buckets the smaller one looks into the larger one; within one, all look at all.
            looking = np.flatnonzero(values < values ^ mask) if mask else np.arange(len(values))
            for left, right in _met(looking, values[looking] ^ mask, order, starts):
                distance = np.bitwise_count(hashes[left] ^ hashes[right]).astype(np.int64)
                close = (distance <= max_distance) & (left != right)
                if close.any():
                    first, second = np.minimum(left, right)[close], np.maximum(left, right)[close]
                    yield np.stack([first, second, distance[close]], 1)


def _met(
    looking: NDArray[np.int64], buckets: NDArray[np.int64], order: NDArray[np.int64], starts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield each that looks with all that are in its bucket, a bounded number of pairs at a time."""
    begins = starts[buckets]
    counts = starts[buckets + 1] - begins
    ends = np.cumsum(counts)
    done = 0
    while done < len(looking):
        base = int(ends[done - 1]) if done else 0
        stop = max(done + 1, int(np.searchsorted(ends, base + _BLOCK, side="right")))
        some = counts[done:stop]
        offsets = np.arange(int(some.sum())) - np.repeat(np.cumsum(some) - some, some)
        yield np.repeat(looking[done:stop], some), order[np.repeat(begins[done:stop], some) + offsets]
        done = stop
