"""Requests to S3: with the options of s3fs, as many at once as threads ask, and each GET as the client's first."""

import base64
import os
import re
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from servers import FlatS3

from condgen.errors import AccessError, ConfigError, MissingError, StorageError
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
    """No credentials but those of a test, and a clock that stands still: the same request has the same signature."""
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **_: now)
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
    store.backend._client()._alike._templates.clear()  # type: ignore[attr-defined]
    assert [store.read_range("b", 2, 5) for _ in range(3)] == [b"234"] * 3
    first, second, third = server.headers
    assert is_clients_own(first)
    assert not is_clients_own(second)
    assert second == third
    assert second == {name: value for name, value in first.items() if not name.startswith("amz-sdk-")}
    return third


def is_clients_own(headers: dict[str, str]) -> bool:
    """Whether botocore's client made a request, and not one after its template."""
    return "amz-sdk-invocation-id" in headers


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


def test_odd_keys_are_asked_for_and_signed_as_the_client_does_it(server: FlatS3) -> None:
    client: Any = opened(server, **KEYS).backend._client()  # type: ignore[attr-defined]
    for key in ("x//y", "/x", "../x", "x/./y", "a?b=c", "a%41b", "ü b+c", "日本~'(", "a\nb", "//", "http://h/x"):
        server.objects["bucket", key] = DATA
        server.requests.clear()
        server.headers.clear()
        assert client.get({"Bucket": "bucket", "Key": key}, (0, 4)) == b"0123"
        client._alike._templates.clear()
        assert client.get({"Bucket": "bucket", "Key": key}, (0, 4)) == b"0123"
        assert [is_clients_own(headers) for headers in server.headers] == [False, True]
        assert server.requests[0] == server.requests[1]
        assert server.headers[0]["authorization"] == server.headers[1]["authorization"]


@pytest.mark.parametrize("first", [True, False])
def test_a_server_that_redirects_to_another_is_told(server: FlatS3, first: bool) -> None:
    options = {"retry": RetryPolicy(attempts=2, base_s=0.001), "key": "k", "secret": f"{first}"}
    if not first:
        opened(server, **options)
    server.elsewhere = "http://127.0.0.1:1"
    server.requests.clear()
    store = open_store("s3://bucket", endpoint_url=server.uri, **options)
    for ask in (store.read, store.size):
        with pytest.raises(StorageError, match="name the server that it redirects to"):
            ask("b")
    assert len(server.requests) <= 20


def test_each_bucket_has_its_own(server: FlatS3) -> None:
    server.objects["other", "a"] = b"other"
    options = {"endpoint_url": server.uri, **KEYS}
    for _ in range(3):
        assert open_store("s3://bucket", **options).read("a") == DATA
        assert open_store("s3://other", **options).read("a") == b"other"
    assert [is_clients_own(headers) for headers in server.headers] == [True, True, False, False, False, False]


def test_credentials_that_cant_be_had_for_a_moment_are_tried_again(
    server: FlatS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(server, retry=RetryPolicy(attempts=2, base_s=0.001), **KEYS)
    credentials = store.backend._client()._alike._credentials  # type: ignore[attr-defined]
    real, failures = credentials.get_frozen_credentials, ["Throttling"]

    def frozen() -> Any:
        if failures:
            raise ClientError({"Error": {"Code": failures.pop(), "Message": "Rate exceeded"}}, "AssumeRole")
        return real()

    monkeypatch.setattr(credentials, "get_frozen_credentials", frozen)
    assert store.read("b") == DATA
    assert failures == []


def test_a_client_that_tries_again_by_itself_makes_all_requests(server: FlatS3) -> None:
    store = opened(server, config_kwargs={"retries": {"mode": "adaptive", "total_max_attempts": 3}}, **KEYS)
    assert store.read("b") == DATA
    assert all(is_clients_own(headers) for headers in server.headers)


def test_a_session_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="session"):
        open_store("s3://bucket", session=object())


def test_a_listing_that_goes_on_nowhere_is_an_error(server: FlatS3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(server, retry=RetryPolicy(attempts=1), **KEYS)
    page = {"IsTruncated": True, "NextContinuationToken": "again", "Contents": []}
    monkeypatch.setattr(type(store.backend), "_call", lambda *_, **__: page)
    with pytest.raises(StorageError, match="where it goes on"):
        store.list()


def test_threads_that_come_at_once_share_one_client_and_a_child_has_its_own(server: FlatS3) -> None:
    backend: Any = open_store("s3://bucket", endpoint_url=server.uri, key="shared", secret="s").backend
    together = threading.Barrier(8, timeout=30)

    def client() -> Any:
        together.wait()
        return backend._client()

    with ThreadPoolExecutor(8) as pool:
        clients = {id(one.result()) for one in [pool.submit(client) for _ in range(8)]}
    assert len(clients) == 1
    assert backend.read("a") == DATA
    child = os.fork()
    if child == 0:
        is_new = id(backend._client()) not in clients and backend.read("b") == DATA
        os._exit(0 if is_new else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert backend.read("c") == DATA


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
    for again in (
        store,
        open_store("s3://bucket", endpoint_url=server.uri, retry=store.retry, key="first", secret="s"),
    ):
        with pytest.raises(StorageError, match=r"(?i)checksum.*after 2 tries"):
            again.read("b")
    server.sums["b"] = "AAAAAA==-3"  # of the sums of three parts
    assert store.read("b") == DATA[::-1]


def test_as_many_requests_at_once_as_threads_ask(server: FlatS3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(server, **KEYS)
    together = threading.Barrier(20, timeout=30)
    answer = server.answer
    monkeypatch.setattr(server, "answer", lambda handler: together.wait() is None or answer(handler))
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(store.read, ["a"] * 20)) == {DATA}
