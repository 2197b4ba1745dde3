"""Tar shards: a writer whose bytes depend on its input alone, and a reader of headers that trusts nothing.

The writer knows where each member begins and ends, so that an index needs no second look. The reader takes byte ranges,
never the whole tar: it follows no link, opens no file, and reports what is cut, damaged or refused instead of skipping
it. Both speak USTAR with PAX headers (POSIX.1-2001); the reader also knows GNU's long names and base-256 sizes.

Keys follow WebDataset: the name up to the first dot of its last part is the key, what follows is the member.

Headers are written here because no format of ``tarfile.TarInfo.tobuf`` gives the bytes that datasets have had from the
beginning: it leaves the device numbers empty (18 bytes of every header) and splits or extends long names otherwise.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from condgen.errors import ImageError

__all__ = [
    "MAX_MEMBER_BYTES",
    "Fault",
    "Member",
    "SampleSpan",
    "TarWriter",
    "iter_members",
    "iter_spans",
    "renamed",
    "split_key",
]

T = TypeVar("T")

BLOCK_BYTES = 512
MAX_MEMBER_BYTES = 512 << 20
"""Larger members are refused: no image that is decoded is as large, and a worker holds a member in memory."""

_END = bytes(2 * BLOCK_BYTES)
_MAX_EXTENDED_BYTES = 1 << 20
_MAX_PADDING_BYTES = 1 << 20
_LINKS = {b"1": "a hard link", b"2": "a symbolic link"}
_SPECIAL = {b"3": "a character device", b"4": "a block device", b"6": "a pipe", b"S": "a sparse file"}


def split_key(name: str) -> tuple[str, str] | None:
    """Return a member's (key, member name), such as ``("a/b", "input.jpg")`` for ``./a/b.Input.JPG``.

    None for what is no part of a sample: a name without an extension, or one whose last part begins with a dot.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts:
        return None
    stem, dot, member = parts[-1].partition(".")
    if not stem or not dot or not member:
        return None
    return "/".join([*parts[:-1], stem]), member.lower()


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: its name, and the bytes ``[start, stop)`` that it takes with headers and padding.

    Its data are ``[data_start, data_start + size_bytes)``.
    """

    name: str
    start: int
    data_start: int
    size_bytes: int
    stop: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault at an offset of a tar; ``name`` is the member's where its header could be read."""

    start: int
    stop: int
    name: str | None
    error: str
    reason: str

    def to_error(self) -> ImageError:
        """Return it as the error of a sample."""
        return ImageError("read", self.error, self.reason)


@dataclass(frozen=True, slots=True)
class SampleSpan:
    """The bytes ``[start, stop)`` of one sample: its members next to each other, or the fault that it has."""

    key: str | None
    start: int
    stop: int
    members: dict[str, Member] = field(default_factory=dict)
    fault: Fault | None = None


class TarWriter:
    """A tar that is made in memory, without times, owners or anything else that is not in its input.

    >>> tar = TarWriter()
    >>> tar.add("a.jpg", b"...")
    (0, 1024)
    >>> len(tar.finish())
    2048
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def size_bytes(self) -> int:
        """Number of bytes so far, without the end mark."""
        return len(self._buffer)

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Append a member and return the range that it takes, headers and padding included."""
        start = len(self._buffer)
        encoded = name.encode()
        split = _split_ustar(encoded) if encoded.isascii() else None
        extended = [] if split else [("path", name)]
        if len(data) >= 8**11:
            extended.append(("size", str(len(data))))
        if extended:
            records = b"".join(_pax_record(key, value) for key, value in extended)
            self._append(_header(b"PaxHeader", b"", len(records), b"x"), records)
        prefix, short = split or (b"", encoded.decode().encode("ascii", "replace")[:100])
        self._append(_header(short, prefix, len(data) if len(data) < 8**11 else 0, b"0"), data)
        return start, len(self._buffer)

    def finish(self) -> bytes:
        """Return the whole tar with its end mark."""
        return bytes(self._buffer) + _END

    def piece(self, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)`` of what was added."""
        return bytes(self._buffer[start:stop])

    def _append(self, header: bytes, data: bytes) -> None:
        self._buffer += header
        self._buffer += data
        self._buffer += bytes(-len(data) % BLOCK_BYTES)


def _split_ustar(name: bytes) -> tuple[bytes, bytes] | None:
    """Return (prefix, name) as a USTAR header can hold it, or None where it can't."""
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, 156)
    while cut > 0:
        if len(name) - cut - 1 > 100:
            return None
        if name[cut + 1 :]:
            return name[:cut], name[cut + 1 :]
        cut = name.rfind(b"/", 0, cut)
    return None


def _pax_record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    size = len(body) + 1
    while len(str(size)) + len(body) != size:
        size = len(str(size)) + len(body)
    return str(size).encode() + body


def _header(name: bytes, prefix: bytes, size: int, kind: bytes) -> bytes:
    fields = [
        name.ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size, b"%011o\0" % 0,
        b" " * 8, kind, bytes(100), b"ustar\x0000", bytes(32), bytes(32), b"0000000\0", b"0000000\0",
        prefix.ljust(155, b"\0"), bytes(12),
    ]  # fmt: skip
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def iter_members(read: Callable[[int, int], bytes], start: int, stop: int, *, whole: bool) -> Iterator[Member | Fault]:
    """Yield the regular files of a tar, or of a run of its members, and its faults, in the order of the bytes.

    Args:
        read: function that returns exactly the bytes ``[start, stop)``.
        start: offset of the first header.
        stop: offset of the end of the tar, or of the run.
        whole: whether the bytes are a whole tar: one without an end mark was cut.
    """
    position, extended, first = start, _NOTHING, start
    while position < stop:
        if stop - position < BLOCK_BYTES:
            yield Fault(first, stop, None, "CutTar", "the tar ends in the middle of a header: it was cut")
            return
        block = read(position, position + BLOCK_BYTES)
        if not any(block):
            if whole:
                yield from _after_end(read, position + BLOCK_BYTES, stop)
            return
        header = _parse(block)
        if header is None:
            yield Fault(first, stop, None, "BadTar", "no tar header where one must be: damaged, or not a tar")
            return
        size = header.size
        if header.kind in (b"0", b"\0", b"7", b"S") and extended.size is not None:
            size = extended.size
        elif header.kind in b"123456":
            size = 0
        data = position + BLOCK_BYTES
        after = data + size + -size % BLOCK_BYTES
        name = extended.path if extended.path is not None else header.name
        if after > stop:
            shown = None if header.kind in (b"x", b"g", b"L", b"K") else name
            yield Fault(first, stop, shown, "CutTar", "the tar ends in the middle of this member: it was cut")
            return
        if header.kind in (b"x", b"g", b"L", b"K"):
            if size > _MAX_EXTENDED_BYTES:
                yield Fault(first, stop, None, "BadTar", f"a name of {size} bytes: refused")
                return
            extended = extended.with_block(header.kind, read(data, data + size) if size else b"")
        else:
            directory = header.kind == b"5" or (header.kind == b"\0" and name.endswith("/"))
            reason = None if directory else _refused(header.kind, name, extended.sparse)
            if reason is None and size > MAX_MEMBER_BYTES and not directory:
                reason = f"{size:,} bytes: more than the {MAX_MEMBER_BYTES:,} that a member may have"
            if reason:
                yield Fault(first, after, name, "RefusedMember", reason)
            elif not directory:
                yield Member(name, first, data, size, after)
            extended, first = _NOTHING, after
        position = after
    if whole:
        yield Fault(stop, stop, None, "CutTar", "the tar has no end mark: it was cut between two members")


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    size: int
    kind: bytes


@dataclass(frozen=True, slots=True)
class _Extended:
    """What PAX and GNU headers say of the member that follows them."""

    path: str | None = None
    size: int | None = None
    sparse: bool = False

    def with_block(self, kind: bytes, data: bytes) -> _Extended:
        if kind == b"L":
            return _Extended(_text(data.rstrip(b"\0")), self.size, self.sparse)
        if kind != b"x":
            return self
        path, size, sparse = self.path, self.size, self.sparse
        while data:
            length, _, rest = data.partition(b" ")
            if not length.isdigit() or not len(length) + 1 < int(length) <= len(data):
                break
            key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
            if key == b"path":
                path = _text(value)
            elif key == b"size" and value.isdigit() and len(value) < 20:
                size = int(value)
            sparse = sparse or key.startswith(b"GNU.sparse.")
            data = data[int(length) :]
        return _Extended(path, size, sparse)


_NOTHING = _Extended()


def _text(data: bytes) -> str:
    """Return a name; bytes that are not UTF-8 are shown escaped, as Parquet and JSON can't hold them."""
    return data.decode("utf-8", "backslashreplace")


def _number(data: bytes) -> int | None:
    if data[0] & 0x80:  # base-256, GNU's for what octal digits can't hold
        return int.from_bytes(bytes([data[0] & 0x7F]) + data[1:], "big")
    digits = data.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit():
        return None
    try:
        return int(digits, 8)
    except ValueError:  # an 8 or a 9
        return None


def _sum(data: bytes) -> int:
    """Return the sum of up to 256 bytes: the lower half of Adler-32 less one, which is not cut below 65,521."""
    return (zlib.adler32(data) & 0xFFFF) - 1


def _parse(block: bytes) -> _Header | None:
    size, checksum = _number(block[124:136]), _number(block[148:156])
    # Without the checksum itself, which counts as eight spaces.
    if size is None or checksum != _sum(block[:148]) + 256 + _sum(block[156:412]) + _sum(block[412:]):
        return None
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0":
        prefix = block[345:500].split(b"\0", 1)[0]
        name = prefix + b"/" + name if prefix else name
    return _Header(_text(name), size, block[156:157])


def _refused(kind: bytes, name: str, sparse: bool) -> str | None:
    if kind in _LINKS:
        return f"{_LINKS[kind]}: links are never followed"
    if kind in _SPECIAL or sparse:
        return f"{_SPECIAL.get(kind, 'a sparse file')}: only regular files are read"
    if kind not in (b"0", b"\0", b"7"):
        return f"a member of the unknown type {kind!r}"
    if name.startswith("/"):
        return "an absolute name"
    if ".." in name.split("/"):
        return "a name with '..' in it"
    return "no name" if not name.strip("/") else None


def _after_end(read: Callable[[int, int], bytes], position: int, stop: int) -> Iterator[Fault]:
    """Yield a fault where something follows the end mark: tars that were joined, which readers take for one."""
    rest = stop - position
    if rest > _MAX_PADDING_BYTES or (rest and any(read(position, stop))):
        reason = f"{rest} bytes follow the end mark: not a shard, or several tars joined into one"
        yield Fault(position, stop, None, "BadTar", reason)


def iter_spans(members: Iterable[Member | Fault]) -> Iterator[SampleSpan]:
    """Group members that follow each other and share a key into samples; a fault is a sample, or makes one faulty."""
    current: SampleSpan | None = None
    for member in members:
        parts = split_key(member.name) if member.name is not None else None
        if isinstance(member, Member) and parts is None:
            continue  # a README, a dot file: no part of a sample
        key = parts[0] if parts else None
        if current is not None and key is not None and key == current.key:
            current = _joined(current, member, parts[1] if parts else "")
            continue
        if current is not None:
            yield current
        if isinstance(member, Fault):
            current = SampleSpan(key, member.start, member.stop, fault=member)
        else:
            current = SampleSpan(key, member.start, member.stop, {parts[1]: member} if parts else {})
    if current is not None:
        yield current


def _joined(span: SampleSpan, member: Member | Fault, name: str) -> SampleSpan:
    if isinstance(member, Fault):
        fault: Fault | None = member
    elif name in span.members:
        fault = Fault(member.start, member.stop, member.name, "Duplicate", f"two members named {name!r}")
    else:
        fault = None
        span.members[name] = member
    return SampleSpan(span.key, span.start, member.stop, span.members, span.fault or fault)


def renamed(members: Mapping[str, T], member_names: Mapping[str, str]) -> dict[str, T]:
    """Return members under the names of a mapping: with ``{"input": "cond"}``, ``cond.png`` is ``input.png``."""
    found = {}
    for member, value in members.items():
        for name, theirs in member_names.items():
            if member == theirs.lower() or member.startswith(f"{theirs.lower()}."):
                member = f"{name}.{member.rpartition('.')[2]}"
                break
        found[member] = value
    return found
