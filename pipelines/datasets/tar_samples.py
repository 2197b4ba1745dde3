"""The samples of a run of a tar's members, grouped by their keys.

Nearly every run has nothing but regular files, with short names in USTAR headers. `_plain_samples` reads such a run in
a third of the time that the reader of all tars takes (11 and 33 µs a sample of two members), and leaves the run to it
at the first byte that it does not expect.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from typing import Any

from condgen.errors import ImageError
from pipelines.datasets.tar import BLOCK_BYTES, MAX_MEMBER_BYTES, iter_members, iter_spans, split_key

__all__ = ["MISMATCH", "TarSample", "checked_samples", "group_samples"]

MISMATCH = "ChecksumMismatch"
"""Name of the error of a run that is not what its index describes."""

_REGULAR = (0, 0x30)
_USTAR = b"ustar\0"
_FIELD_ENDS = b" \0"
_CHECKSUM_AS_SPACES = 256 - 3
"""Eight spaces in the place of the checksum, less the ones with which three Adler-32 sums begin."""


@dataclass(frozen=True, slots=True)
class TarSample:
    """A sample that was read: its members by name, or the fault that it has; ``key`` is None where it can't be told."""

    key: str | None
    members: dict[str, bytes] = field(default_factory=dict)
    fault: ImageError | None = None


def group_samples(data: bytes, start: int = 0, stop: int | None = None, *, views: bool = False) -> list[TarSample]:
    """Return the samples of a run of members; a faulty one is there with its fault.

    Args:
        data: bytes of a tar, or of a part of one.
        start, stop: the run's place in them (default: all of them).
        views: whether members may be views of the data in the place of copies, for those that join them.
    """
    stop = len(data) if stop is None else stop
    plain = _plain_samples(data, memoryview(data) if views else data, start, stop)
    return _all_samples(data[start:stop]) if plain is None else plain


def checked_samples(data: bytes, start: int, stop: int, count: int, sha256: str, views: bool) -> list[TarSample]:
    """Return the samples of a run as its index describes it, or faulty ones where the bytes are others.

    Args:
        data: bytes of a part of a tar.
        start, stop: the run's place in them.
        count: number of samples.
        sha256: checksum of the run; empty for one of a shard of which only headers were read.
        views: whether members may be views of the data.
    """
    samples = group_samples(data, start, stop, views=views)
    is_other = len(samples) != count
    if not is_other and (not sha256 or hashlib.sha256(memoryview(data)[start:stop]).hexdigest() == sha256):
        return samples
    changed = ImageError("read", MISMATCH, "the shard's bytes are not those that its index describes")
    return [TarSample(None if is_other else samples[place].key, fault=changed) for place in range(count)]


def _all_samples(data: bytes) -> list[TarSample]:
    samples = []
    for span in iter_spans(iter_members(lambda a, b: data[a:b], 0, len(data), whole=False)):
        if span.fault is not None:
            samples.append(TarSample(span.key, fault=span.fault.to_error()))
        else:
            members = {name: data[m.data_start : m.data_start + m.size_bytes] for name, m in span.members.items()}
            samples.append(TarSample(span.key, members))
    return samples


def _plain_samples(data: bytes, cut: Any, position: int, stop: int) -> list[TarSample] | None:
    """Return what `_all_samples` does, or None where a header is other than plain, or a fault may be.

    Args:
        data: bytes of a tar.
        cut: the same bytes, or a view of them, whose slices are the members.
        position, stop: the run's place.
    """
    samples: list[TarSample] = []
    current: str | None = None
    members: dict[str, bytes] = {}
    while position < stop:
        head = data[position : position + BLOCK_BYTES]
        if len(head) < BLOCK_BYTES or position + BLOCK_BYTES > stop:
            return None
        digits, checksum, name = head[124:135], head[148:154], head[:100].split(b"\0", 1)[0]
        is_plain = (
            head[156] in _REGULAR
            and (head[257:263] != _USTAR or not head[345])  # a prefix of the name
            and head[135] in _FIELD_ENDS
            and head[154] in _FIELD_ENDS
            and head[155] in _FIELD_ENDS
            and digits.isdigit()
            and checksum.isdigit()
            and name.isascii()
        )
        if not is_plain or b"/" in name:
            parts = split_key(name.decode()) if is_plain and _is_inside(name) else None
            if parts is None:
                return None
            key, member = parts
        else:
            key, dot, member = name.decode().partition(".")
            member = member.lower()
            if not key or not dot or not member:
                return None
        try:
            size, told = int(digits, 8), int(checksum, 8)
        except ValueError:  # an 8 or a 9
            return None
        total = zlib.adler32(head[:148]) & 0xFFFF
        total += (zlib.adler32(head[156:412]) & 0xFFFF) + (zlib.adler32(head[412:]) & 0xFFFF)
        first = position + BLOCK_BYTES
        position = first + size + -size % BLOCK_BYTES
        if total + _CHECKSUM_AS_SPACES != told or size > MAX_MEMBER_BYTES or position > stop:
            return None
        if key != current:
            current, members = key, {}
            samples.append(TarSample(key, members))
        elif member in members:
            return None
        members[member] = cut[first : first + size]
    return samples


def _is_inside(name: bytes) -> bool:
    """Return whether a name with folders is of a regular file below the tar's own place."""
    return not name.startswith(b"/") and not name.endswith(b"/") and b".." not in name
