"""A refusal of S3 may mean that nothing is there: the listing tells, to those who may list a part of a bucket alone."""

from collections.abc import Iterator

import pytest
from servers import FlatS3

from condgen.errors import AccessError, MissingError
from pipelines.storage.store import Store, open_store


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlatS3]:
    """A server that refuses every object to whoever asks, and lists all of them."""
    with FlatS3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.objects["bucket", "run/there.json"] = b"{}"
        server.objects["bucket", "run/there.json.old/x"] = b"{}"
        server.refused["bucket", "*"] = (403, "AccessDenied")
        yield server


def asked_for(store: Store, name: str) -> list[type[Exception] | bool]:
    """What each question about a name is answered with."""
    answers: list[type[Exception] | bool] = []
    for question in (store.read, store.size, lambda name: store.read_range(name, 0, 1), store.exists, store.is_file):
        try:
            answers.append(bool(question(name)))
        except (AccessError, MissingError) as error:
            answers.append(type(error))
    return answers


def test_an_object_that_the_listing_does_not_have_is_missing(server: FlatS3) -> None:
    store = open_store("s3://bucket/run")
    for name in ("nothing.json", "there", "there.json.old"):
        there = name == "there.json.old"
        assert asked_for(store, name) == [MissingError, MissingError, MissingError, there, False]


def test_an_object_that_the_listing_has_stays_refused(server: FlatS3) -> None:
    assert asked_for(open_store("s3://bucket/run"), "there.json") == [AccessError] * 5


def test_where_no_listing_is_allowed_a_refusal_is_one(server: FlatS3) -> None:
    server.lists = False
    assert asked_for(open_store("s3://bucket/run"), "nothing.json") == [AccessError] * 5


def test_a_folder_that_may_be_listed_is_there_though_its_own_name_is_refused(server: FlatS3) -> None:
    server.lists = "run/"
    assert open_store("s3://bucket/run").exists("")
    with pytest.raises(MissingError):
        open_store("s3://bucket/run/none").require()
    with pytest.raises(AccessError):
        open_store("s3://bucket/walk").require()
