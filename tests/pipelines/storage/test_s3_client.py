"""Requests to S3: with the options of s3fs, as many at once as threads ask, and each GET as the client's first."""

import base64
import re
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from servers import FlatS3

from condgen.errors import AccessError, MissingError, StorageError
from pipelines.storage.store import RetryPolicy, Store, open_store

DATA = b"0123456789"
KEYS = {"key": "k", "secret": "s"}


@pytest.fixture
def server() -> Iterator[FlatS3]:
    with FlatS3() as server:
        for name in "abc":
            server.objects["bucket", name] = DATA
        yield server


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials but those of a test."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def opened(server: FlatS3, **options: Any) -> Store:
    """A store that has read an object, so that the next GET is made after that one."""
    store = open_store("s3://bucket", endpoint_url=server.uri, **options)
    assert store.read("a") == DATA
    return store


def headers_of(store: Store, server: FlatS3) -> dict[str, str]:
    """The headers of reads, which must be the same but for what each has of its own; of a write and a list, too."""
    store.write("d", b"xy")
    assert [entry.name for entry in store.list()] == ["a", "b", "c", "d"]
    server.headers.clear()
    store.backend._client()._templates.clear()  # type: ignore[attr-defined]
    assert [store.read_range(name, 2, 5) for name in "abc"] == [b"234"] * 3
    assert len(server.headers) == 3
    own = ("amz-sdk-", "x-amz-date", "authorization")
    first, second, third = (
        {name: value for name, value in headers.items() if not name.startswith(own)} for headers in server.headers
    )
    assert first == second == third
    signed = [headers.get("authorization", "").partition("SignedHeaders")[0] for headers in server.headers]
    assert len(set(signed)) == 1
    return server.headers[2]


def test_keys_and_an_endpoint_that_are_given(server: FlatS3) -> None:
    sent = headers_of(opened(server, key="given", secret="s", token="session"), server)
    assert re.match(r"AWS4-HMAC-SHA256 Credential=given/\d{8}/eu-west-3/s3/aws4_request", sent["authorization"])
    assert sent["x-amz-security-token"] == "session"
    client = {"aws_access_key_id": "of-client", "aws_secret_access_key": "s", "region_name": "ap-south-1"}
    sent = headers_of(opened(server, client_kwargs=client), server)
    assert re.search(r"Credential=of-client/\d{8}/ap-south-1/", sent["authorization"])


def test_a_profile(server: FlatS3, tmp_path: Path) -> None:
    lines = ["[profile other]", f"endpoint_url = {server.uri}", "aws_access_key_id = of-profile"]
    (tmp_path / "config").write_text("\n".join([*lines, "aws_secret_access_key = s", ""]))
    store = open_store("s3://bucket", profile="other")
    assert "Credential=of-profile/" in headers_of(store, server)["authorization"]


def test_no_signature_of_an_anonymous_reader(server: FlatS3) -> None:
    assert "authorization" not in headers_of(opened(server, anon=True, **KEYS), server)


def test_a_requester_who_pays_and_other_settings(server: FlatS3) -> None:
    assert headers_of(opened(server, requester_pays=True, **KEYS), server)["x-amz-request-payer"] == "requester"
    more = {"ExpectedBucketOwner": "123456789012", "ServerSideEncryption": "AES256"}  # the second is a write's alone
    store = opened(server, s3_additional_kwargs=more, config_kwargs={"user_agent_extra": "ours/1"}, **KEYS)
    sent = headers_of(store, server)
    assert sent["x-amz-expected-bucket-owner"] == "123456789012"
    assert "x-amz-server-side-encryption" not in sent
    assert "ours/1" in sent["user-agent"]


@pytest.mark.parametrize(("status", "code", "error", "told"), [
    (404, "NoSuchKey", MissingError, "Missing"),
    (403, "InvalidObjectState", StorageError, "S3 InvalidObjectState"),
    (403, "SignatureDoesNotMatch", AccessError, "S3 SignatureDoesNotMatch"),
    (400, "ExpiredToken", AccessError, "S3 ExpiredToken"),
    (500, "InternalError", StorageError, "S3 InternalError"),
    (503, "SlowDown", StorageError, "S3 SlowDown"),
])  # fmt: skip
def test_an_error_is_the_same_at_the_first_get_and_later(
    server: FlatS3, status: int, code: str, error: type[StorageError], told: str
) -> None:
    server.refused["bucket", "b"] = (status, code)
    retry = RetryPolicy(attempts=2, base_s=0.001)
    first = open_store("s3://bucket", endpoint_url=server.uri, retry=retry, key="first", secret=code)
    later = opened(server, retry=retry, key="later", secret=code)
    texts = []
    for store in (first, later):
        with pytest.raises(error, match="s3://bucket/b") as caught:
            store.read("b")
        assert (type(caught.value), caught.value.code) == (error, told)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert later.read("c") == DATA


def test_a_tried_get_is_one_request(server: FlatS3) -> None:
    store = opened(server, retry=RetryPolicy(attempts=3, base_s=0.001), **KEYS)
    server.refused["bucket", "b"] = (503, "SlowDown")
    server.requests.clear()
    with pytest.raises(StorageError):
        store.read("b")
    assert len(server.requests) == 3


def test_an_object_is_checked_against_its_checksum(server: FlatS3) -> None:
    store = opened(server, retry=RetryPolicy(attempts=2, base_s=0.001), **KEYS)
    server.sums["b"] = base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode()
    assert store.read("b") == DATA
    server.objects["bucket", "b"] = DATA[::-1]
    with pytest.raises(StorageError, match=r"CRC32.*after 2 tries"):
        store.read("b")
    server.sums["b"] = "AAAAAA==-3"  # of the sums of three parts
    assert store.read("b") == DATA[::-1]


def test_as_many_requests_at_once_as_threads_ask(server: FlatS3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(server, **KEYS)
    together = threading.Barrier(20, timeout=30)
    answer = server.answer
    monkeypatch.setattr(server, "answer", lambda handler: together.wait() is None or answer(handler))
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(store.read, ["a"] * 20)) == {DATA}
