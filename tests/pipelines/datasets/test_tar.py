"""Tars: what is written depends on the input alone; what is read is trusted in nothing."""

import io
import tarfile
from collections.abc import Callable

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import tar_of

from pipelines.datasets.tar import Fault, Member, TarWriter, iter_members, iter_spans, split_key
from pipelines.datasets.tar_samples import _all_samples, _plain_samples, group_samples

NAMES = [
    "a.jpg",
    "folder/b.jpg",
    "x" * 96 + ".jpg",
    "d" * 80 + "/" + "e" * 80 + "/" + "f" * 60 + ".jpg",
    "d" * 200 + "/" + "n" * 150 + ".jpg",
    "n" * 200 + ".jpg",
    "Übermut/日本.jpg",
    "with space/и.jpg",
]


def members(data: bytes, whole: bool = True) -> list[Member | Fault]:
    return list(iter_members(lambda a, b: data[a:b], 0, len(data), whole=whole))


def made(*items: tuple[str, bytes]) -> bytes:
    return tar_of(items)


def foreign(fill: Callable[[tarfile.TarFile], None], layout: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as tar:
        fill(tar)
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("name", NAMES)
def test_python_reads_what_is_written(name: str) -> None:
    data = made((name, b"abc" * 300), ("z.txt", b""))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        assert tar.getnames() == [name, "z.txt"]
        found = tar.extractfile(name)
        assert found.read() == b"abc" * 300
        info = tar.getmember(name)
    assert (info.mtime, info.uid, info.gid, info.uname, info.gname, info.mode) == (0, 0, 0, "", "", 0o644)


@given(st.lists(st.tuples(st.text("abcé/.-", min_size=1, max_size=300), st.binary(max_size=2000)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_the_offsets_of_the_writer_are_those_of_the_reader(items: list[tuple[str, bytes]]) -> None:
    tar = TarWriter()
    safe = [(f"k{number}/{name.replace('..', '--')}x", data) for number, (name, data) in enumerate(items)]
    ranges = [tar.add(name, data) for name, data in safe]
    data = tar.finish()
    found = members(data)
    assert [(item.start, item.stop) for item in found] == ranges
    assert [item.name for item in found] == [name for name, _ in safe]
    for item, (_, content) in zip(found, safe, strict=True):
        assert isinstance(item, Member)
        assert data[item.data_start : item.data_start + item.size_bytes] == content


def test_the_webdataset_library_reads_what_is_written(tmp_path: object) -> None:
    path = f"{tmp_path}/x.tar"
    with open(path, "wb") as file:  # noqa: PTH123  # the library takes a plain name
        file.write(made(("d/a%2Eb.jpg", b"1"), ("d/a%2Eb.json", b"{}"), ("d/c.input.png", b"2")))
    found = list(webdataset.WebDataset(path, shardshuffle=False))
    assert [item["__key__"] for item in found] == ["d/a%2Eb", "d/c"]
    assert found[1]["input.png"] == b"2"


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_other_programs_are_read(layout: int) -> None:
    long = "./" + "d" * 120 + "/" + "n" * (80 if layout == tarfile.USTAR_FORMAT else 120) + ".Input.JPG"

    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "folder", kind=tarfile.DIRTYPE)
        add(tar, "./README", b"no extension")
        add(tar, "./._a.jpg", b"of a Mac")
        add(tar, long, b"1")
        add(tar, long.replace("Input.JPG", "target.jpeg"), b"22")
        add(tar, "b.WEBP", b"333")

    spans = list(iter_spans(members(foreign(fill, layout))))
    assert [span.key for span in spans] == [long[2:].split(".")[0], "b"]
    assert list(spans[0].members) == ["input.jpg", "target.jpeg"]
    assert list(spans[1].members) == ["webp"]
    assert not any(span.fault for span in spans)


@pytest.mark.parametrize(("name", "key"), [
    ("a.jpg", ("a", "jpg")), ("./a/b.c.JPG", ("a/b", "c.jpg")), ("v1.2/a.png", ("v1.2/a", "png")),
    ("a//b.png", ("a/b", "png")), ("README", None), (".hidden.jpg", None), ("a.", None), ("", None), ("./", None),
])  # fmt: skip
def test_keys_follow_webdataset(name: str, key: tuple[str, str] | None) -> None:
    assert split_key(name) == key


@pytest.mark.parametrize(("name", "kind", "link", "reason"), [
    ("a.jpg", tarfile.SYMTYPE, "/etc/passwd", "symbolic link"),
    ("a.jpg", tarfile.LNKTYPE, "b.jpg", "hard link"),
    ("a.jpg", tarfile.CHRTYPE, "", "character device"),
    ("a.jpg", tarfile.BLKTYPE, "", "block device"),
    ("a.jpg", tarfile.FIFOTYPE, "", "pipe"),
    ("/etc/a.jpg", tarfile.REGTYPE, "", "absolute"),
    ("../a.jpg", tarfile.REGTYPE, "", "'..'"),
    ("x/../../a.jpg", tarfile.REGTYPE, "", "'..'"),
    ("a.jpg", b"Z", "", "unknown type"),
])  # fmt: skip
def test_links_devices_and_names_outside_are_refused_with_the_reason(
    name: str, kind: bytes, link: str, reason: str
) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "before.jpg", b"1")
        add(tar, name, kind=kind, link=link)
        add(tar, "behind.jpg", b"2")

    data = foreign(fill)
    before, refused, behind = members(data)
    assert refused.error == "RefusedMember"
    assert reason in refused.reason
    assert isinstance(before, Member)
    assert isinstance(behind, Member)
    samples = group_samples(data)
    assert len(samples) == 3
    assert samples[1].fault is not None


@pytest.mark.parametrize("cut", [1, 100, 511, 512, 513, 1023, 1535, 1536 + 512 + 1])
def test_a_cut_tar_is_a_fault_wherever_it_was_cut(cut: int) -> None:
    data = made(("a.jpg", b"x" * 600), ("b.jpg", b"y" * 600))
    *_, last = members(data[:cut])
    assert last.error == "CutTar"


def test_a_tar_that_was_cut_between_two_members_is_a_fault_too() -> None:
    data = made(("a.jpg", b"x" * 600), ("b.jpg", b"y" * 600))
    first = members(data)[0]
    assert isinstance(first, Member)
    found = members(data[: first.stop])
    assert found[0] == first
    assert "between two members" in found[1].reason
    assert members(data[: first.stop], whole=False) == [first]


def test_garbage_joined_tars_and_endless_zeros_are_faults() -> None:
    assert isinstance(members(b"no tar at all" * 100)[0], Fault)
    one = made(("a.jpg", b"x"))
    joined = members(one + one)
    assert "joined" in joined[-1].reason
    read: list[tuple[int, int]] = []

    def zeros(start: int, stop: int) -> bytes:
        read.append((start, stop))
        return bytes(stop - start)

    found = list(iter_members(zeros, 0, 10**9, whole=True))
    assert isinstance(found[0], Fault)
    assert sum(stop - start for start, stop in read) < 1 << 20


def test_a_name_of_a_gigabyte_is_refused_unread() -> None:
    data = bytearray(foreign(lambda tar: add(tar, "n" * 200 + ".jpg", b"x")))
    data[124:136] = b"%011o\0" % (1 << 30)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    (fault,) = iter_members(lambda a, b: bytes(data[a:b]), 0, 2 << 30, whole=True)
    assert "refused" in fault.reason


def test_two_members_of_one_name_in_a_sample_are_a_fault() -> None:
    (sample,) = group_samples(made(("a.jpg", b"1"), ("a.JPG", b"2")))
    assert sample.fault.error == "Duplicate"


@given(st.integers(0, 2559), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_one_byte_changed_anywhere_is_survived(place: int, value: int) -> None:
    data = bytearray(made(("a.jpg", b"x" * 600), ("b.jpg", b"")))
    data[place % len(data)] = value
    for item in members(bytes(data)):
        assert 0 <= item.start <= item.stop <= len(data)


def test_a_header_whose_checksum_does_not_fit_is_a_fault() -> None:
    data = bytearray(made(("a.jpg", b"x"), ("b.jpg", b"y")))
    data[1024] = ord("c")
    first, second = members(bytes(data))
    assert isinstance(first, Member)
    assert second.error == "BadTar"


TEXTS = st.text("ab./é~ ", min_size=1, max_size=9)


@given(
    st.lists(st.tuples(TEXTS, st.binary(max_size=600)), max_size=5),
    st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=2),
)
@settings(max_examples=200, deadline=None)
def test_the_short_way_to_a_run_finds_what_the_long_one_does(
    items: list[tuple[str, bytes]], changes: list[tuple[int, int]]
) -> None:
    data = bytearray(made(*items)[:-1024])
    for place, value in changes:  # in a header, whose checksum is set again, or in the checksum
        if place < len(data):
            data[place] = value
            data[148:156] = b" " * 8
            data[148:156] = b"%06o\0 " % sum(data[:512])
    plain = _plain_samples(bytes(data), bytes(data), 0, len(data))
    expected = _all_samples(bytes(data))
    if plain is not None:
        assert plain == expected
    assert [str(s) for s in group_samples(b"x" * 512 + data, 512)] == [str(s) for s in expected]


def test_plain_runs_take_the_short_way_and_others_the_long_one() -> None:
    data = made(("a/b.JPG", b"1" * 700), ("a/b.json", b"{}"), ("c.jpg", b""))[:-1024]
    plain = _plain_samples(data, memoryview(data), 0, len(data))
    assert plain is not None
    assert [(sample.key, {k: bytes(v) for k, v in sample.members.items()}) for sample in plain] == [
        ("a/b", {"jpg": b"1" * 700, "json": b"{}"}),
        ("c", {"jpg": b""}),
    ]
    changed = bytearray(data)
    changed[0] ^= 1
    twice, outside = made(("a.jpg", b"1"), ("a.jpg", b"2"))[:-1024], made(("../a.jpg", b"1"))[:-1024]
    link = foreign(lambda tar: add(tar, "a.jpg", kind=tarfile.SYMTYPE, link="b.jpg"))[:512]
    for other in (bytes(changed), data[:-1], data[9:], data + bytes(1024), twice, outside, link):
        assert _plain_samples(other, other, 0, len(other)) is None
