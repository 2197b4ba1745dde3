"""Roles of a table's columns: the images themselves go before a place where they may be."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from samples import flat

from condgen.errors import ConfigError
from pipelines.datasets.roles import find_roles
from pipelines.storage.parquet import StoredParquet

JPEG, PNG = flat(1, image_format="JPEG"), flat(2)
URL = "https://example.org/1.jpg"
HELD = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def roles(table: dict[str, Any], **columns: str) -> dict[str, str]:
    return find_roles(StoredParquet.of_table(pa.table(table)), columns, "t.parquet")


@pytest.mark.parametrize(
    ("table", "image"),
    [
        # img2dataset, output_format=parquet (a row that failed has no bytes)
        ({"url": [URL, URL], "key": ["0", "1"], "status": ["failed", "success"], "jpg": [None, JPEG]}, "jpg"),
        # Spark, format("binaryFile")
        ({"path": ["file:/a.jpg"], "modificationTime": [0], "length": [9], "content": [JPEG]}, "content"),
        # Hugging Face datasets
        ({"url": [URL], "image": pa.array([{"bytes": PNG, "path": "1.png"}], HELD)}, "image"),
        ({"image_url": [URL], "photo": pa.array([{"bytes": PNG, "path": None}], HELD)}, "photo"),
        ({"URL": [URL], "WebP": [flat(1, image_format="WEBP")]}, "WebP"),
        ({"url": [URL], "payload": pa.array([PNG], pa.large_binary())}, "payload"),
        ({"url": [URL], "payload": pa.array([PNG], pa.binary_view())}, "payload"),
        ({"url": [URL], "raw": pa.array([PNG, PNG]).dictionary_encode()[:1]}, "raw"),
        # bytes that are none of an image's
        ({"url": [URL], "embedding": [b"\0\1\2\3"], "sha256": [b"x" * 32]}, "url"),
        ({"url": [URL], "content": [b"<html>"]}, "url"),
        ({"url": [URL], "thumbhash": pa.array([], pa.binary()).take(pa.array([None], pa.int64()))}, "url"),
        # texts of any of Arrow's types
        ({"uri": pa.array([URL]).dictionary_encode()}, "uri"),
        ({"uri": pa.array([URL], pa.string_view())}, "uri"),
        ({"uri": pa.array([URL], pa.large_string())}, "uri"),
        ({"image": pa.array([{"path": "a.jpg"}])}, "image"),
    ],
)
def test_the_column_with_the_images_themselves_is_taken(table: dict[str, Any], image: str) -> None:
    assert roles(table)["image"] == image


def test_what_is_not_clear_is_asked_and_what_is_named_is_taken() -> None:
    table = {"url": [URL], "before": [PNG], "after": [JPEG]}
    with pytest.raises(ConfigError, match=r"--roles.*image=COLUMN.*with images: before, after"):
        roles(table)
    assert roles(table, image="after")["image"] == "after"
    assert roles(table, image="url")["image"] == "url"
    with pytest.raises(ConfigError, match=r"--roles.*image=COLUMN, one of t.parquet: number"):
        roles({"number": [1]})
    with pytest.raises(ConfigError, match="not of int64"):
        roles({"number": [1]}, image="number")


def test_pairs_and_words_are_found_beside_images() -> None:
    assert roles({"input": [PNG], "target": [URL], "url": [URL], "text": ["x"]}) == {
        "input": "input", "target": "target", "caption": "text",
    }  # fmt: skip
    assert roles({"jpg": [JPEG], "url": [URL], "caption": ["x"], "key": ["0"]}) == {
        "image": "jpg", "caption": "caption", "key": "key",
    }  # fmt: skip
