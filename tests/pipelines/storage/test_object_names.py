"""Names of stored objects: any name travels, and comes back as it was."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import FlatS3, WebServer

from condgen.errors import AccessError, MissingError, StorageError
from pipelines.storage.object_names import escape_name, split_uri, unescape_name
from pipelines.storage.store import RetryPolicy, Store, open_store

QUICK = RetryPolicy(attempts=2, base_s=0.001)
ANYWHERE = [
    "a b.jpg", "a%20b.jpg", "a+b.jpg", "a?b.jpg", "a#b.jpg", "100%.jpg", "e\u0301.jpg", "\u00e9.jpg", "a;b=c&d.jpg",
    "x::y.jpg", "a?versionId=3", "'q\".jpg", "a\\b.jpg", "日本.jpg", "~x", "[1].jpg", "{a}.jpg", "*.jpg", " ", "a\nb",
]  # fmt: skip
FLAT = ["d//x.jpg", "d/../y.jpg", "/lead.jpg", "../up.jpg", "d/./z.jpg", "d///w.jpg", "s://t.jpg"]


@given(st.text(st.sampled_from("a/\\udc5cf8é\udcff\udc80"), max_size=24))
def test_an_escaped_name_is_text_and_gives_the_name_back(name: str) -> None:
    escaped = escape_name(name)
    escaped.encode()
    assert unescape_name(escaped) == name


@given(st.binary(max_size=12))
def test_bytes_of_any_file_name_come_back(data: bytes) -> None:
    assert os.fsencode(unescape_name(escape_name(os.fsdecode(data)))) == data


def test_names_that_are_text_stay_as_they_are() -> None:
    assert [escape_name(name) for name in ANYWHERE] == ANYWHERE
    assert escape_name("caf\udce9") == r"caf\udce9"  # as Python shows a byte that is no text
    assert escape_name(r"caf\udce9") == r"caf\udc5cudce9"


@pytest.mark.parametrize(("uri", "parts"), [
    ("s3://bucket/a//b/../c?x#y%20 z", ("s3://bucket", "a//b/../c?x#y%20 z")),
    ("S3://bucket//a", ("S3://bucket", "/a")),
    ("s3://bucket/s3://x", ("s3://bucket", "s3://x")),
    ("https://host/a%2Fb/..//c.jpg?q=1/2&r=+#top", ("https://host", "a%2Fb/..//c.jpg?q=1/2&r=+")),
    ("https://host?id=7", ("https://host", "?id=7")),
    ("/a//b/../c#d?", ("/", "a//b/../c#d?")),
    ("file:///a b", ("/", "a b")),
    ("memory://m/x y", ("memory://m", "x y")),
    ("s3://", ("s3://", "")),
])  # fmt: skip
def test_a_uri_is_taken_apart_and_nothing_of_it_changes(uri: str, parts: tuple[str, str]) -> None:
    assert split_uri(uri) == parts


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "local":
        yield open_store(tmp_path / "odd # 100%")
    elif request.param == "memory":
        yield open_store(f"memory://{tmp_path.name}")
    else:
        with FlatS3() as server:
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            yield open_store("s3://bucket/a prefix?#%20//x")


def test_odd_names_are_written_listed_and_read(store: Store) -> None:
    names = [*ANYWHERE, *(FLAT if not store.uri.startswith("/") else [])]
    for name in names:
        store.write(name, name.encode())
    assert {entry.name for entry in store.list()} == set(names)
    for name in names:
        data = name.encode()
        assert (store.read(name), store.read_range(name, 0, 1), store.size(name)) == (data, data[:1], len(data))
        assert store.exists(name)
    for name in names:
        store.delete(name)
    assert store.list() == []


def test_names_of_a_folder_stay_inside_and_those_of_the_whole_disk_may_go_anywhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "x").write_bytes(b"1")
    for name in ("../x", "a/../../x"):
        with pytest.raises(StorageError, match=r"\.\."):
            open_store(tmp_path / "in").read(name)
    assert open_store("/").read(f"{tmp_path}/in/..//x".lstrip("/")) == b"1"


def test_an_address_is_sent_as_it_is_written_and_only_what_it_can_not_have_in_percent_signs() -> None:
    sent = {
        "a%20b.jpg?x=1+2&y=%2F": "/p/a%20b.jpg?x=1+2&y=%2F", "é ü.jpg": "/p/%C3%A9%20%C3%BC.jpg",
        "d//../x%2Fy%zz": "/p/d//../x%2Fy%zz", "q#1.jpg": "/p/q%231.jpg", "e\u0301": "/p/e%CC%81", "%ff": "/p/%ff",
    }  # fmt: skip
    with WebServer(dict.fromkeys(sent.values(), b"0123")) as web:
        store = open_store(f"{web.uri}/p", retry=QUICK)
        for name in sent:
            assert store.read(name) == b"0123"
            assert store.read_range(name, 1, 3) == b"12"
            assert store.size(name) == 4
        assert {path for _, path in web.requests} == set(sent.values())


def test_a_server_without_ranges_or_heads_gives_ranges_and_sizes_all_the_same() -> None:
    def no_head(handler: object) -> None:
        if handler.command == "HEAD":  # type: ignore[attr-defined]
            handler.send(405)  # type: ignore[attr-defined]
        else:
            handler.send(200, b"0123456789")  # type: ignore[attr-defined]

    with WebServer({"/x": no_head}, ranges=False) as web:
        store = open_store(web.uri, retry=QUICK)
        assert store.read_range("x", 3, 7) == b"3456"
        assert store.size("x") == 10
        assert store.exists("x")
        assert not store.exists("y")
        with pytest.raises(StorageError, match="10 bytes"):
            store.read_range("x", 8, 12)


@pytest.mark.parametrize(("status", "code", "scope", "tries"), [
    (400, "HTTP 400", "object", 1), (410, "HTTP 410", "object", 1), (403, "HTTP 403", "unclear", 1),
    (429, "HTTP 429", "unclear", 2), (500, "HTTP 500", "unclear", 2), (404, "Missing", "object", 1),
    (451, "HTTP 451", "object", 1), (599, "HTTP 599", "unclear", 1),
])  # fmt: skip
def test_a_servers_code_says_whom_it_concerns_and_whether_it_is_tried_again(
    status: int, code: str, scope: str, tries: int
) -> None:
    with WebServer({}, default=status) as web:
        with pytest.raises(StorageError) as caught:
            open_store(web.uri, retry=QUICK).read("x")
        assert (caught.value.code, caught.value.scope, len(web.requests)) == (code, scope, tries)
        assert isinstance(caught.value, {403: AccessError, 404: MissingError}.get(status, StorageError))
