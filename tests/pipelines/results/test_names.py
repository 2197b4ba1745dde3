"""Names of extracted pictures: the archive's own, safe, and never two the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.results.names import Identity, name_images, stem_digest, stem_of


def names_of(chunks: dict[str, list[Identity]], suffix: str = "jpg") -> tuple[bool, dict[Identity, list[str]]]:
    """The final names of all images, as `condgen extract` gives them."""

    def digests(images: list[Identity], by_shard: bool) -> np.ndarray:
        stems = [stem_of(image, by_shard=by_shard, suffix=suffix).text for image in images]
        return np.array([stem_digest(stem) for stem in stems], np.uint64)

    pairs = {name: (digests(images, False), digests(images, True)) for name, images in chunks.items()}
    names = name_images(pairs, lambda name: chunks[name], suffix)
    found: dict[Identity, list[str]] = {}
    for name, images in chunks.items():
        for place, image in enumerate(images):
            stem = names.others.get(name, {}).get(place) or stem_of(image, by_shard=names.by_shard, suffix=suffix).text
            found.setdefault(image, []).append(f"{stem}.{suffix}")
    return names.by_shard, found


def loose(*files: str) -> list[Identity]:
    return [Identity(file, file.rpartition(".")[0] or file, True) for file in files]


def shard(name: str, *keys: str) -> list[Identity]:
    return [Identity(name, key, False) for key in keys]


def test_loose_files_keep_their_folders_and_stems() -> None:
    _, found = names_of({"c": loose("album/0.png", "album/1.b.jpeg", "Ärger/été 1.tif")})
    assert [name for names in found.values() for name in names] == ["album/0.jpg", "album/1.b.jpg", "Ärger/été 1.jpg"]


def test_files_of_one_stem_keep_their_extensions_too_and_later_plans_change_no_name() -> None:
    first = {"c0": loose("a.png"), "c1": loose("a.tif", "a.png.png")}
    _, before = names_of(first)
    assert [n for names in before.values() for n in names] == ["a.jpg", "a.tif.jpg", "a.png.jpg"]
    _, after = names_of({**first, "g001-c0": loose("A.jpg", "a.jpeg", "a.tif.webp")})
    assert {image: names for image, names in after.items() if image in before} == before
    assert [n for image, names in after.items() if image not in before for n in names] == [
        "A.jpg.jpg",
        "a.jpeg.jpg",
        "a.tif.webp.jpg",
    ]


def test_keys_of_one_shard_each_are_names_and_else_are_in_folders_of_their_shards() -> None:
    by_shard, found = names_of({"c0": shard("t/0.tar", "a", "b"), "c1": shard("t/1.tar", "c")})
    assert not by_shard
    assert sorted(n for names in found.values() for n in names) == ["a.jpg", "b.jpg", "c.jpg"]
    by_shard, found = names_of({"c0": shard("t/0.tar", "a", "b"), "c1": shard("t/1.tar", "a")})
    assert by_shard
    assert sorted(n for names in found.values() for n in names) == ["t/0/a.jpg", "t/0/b.jpg", "t/1/a.jpg"]


def test_a_key_that_is_twice_in_one_table_is_numbered_past_names_that_are_taken() -> None:
    by_shard, found = names_of({"c": shard("t.parquet", "a", "a", "a~2", "A")})
    assert not by_shard
    assert found[Identity("t.parquet", "a", False)] == ["a.jpg", "a~2.jpg"]
    assert found[Identity("t.parquet", "a~2", False)] == ["a~2~2.jpg"]
    assert found[Identity("t.parquet", "A", False)] == ["A~3.jpg"]


@pytest.mark.parametrize(
    ("key", "start"),
    [
        ("/etc/passwd", "etc/passwd~"),
        ("../../x", "x~"),
        ("a/../b", "a/b~"),
        ("a//b/", "a/b~"),
        ("..", "picture~"),
        ("", "picture~"),
        ("a\0b\nc\\d", "a_b_c_d~"),
        (".hidden/.x", "_hidden/_x~"),
        ("x.jpg/y", "x.jpg_/y~"),
        ("\ud800", "_~"),
        ("é" * 300, "é" * 100 + "~"),
        ("/".join(["f" * 200] * 20 + ["leaf"]), "leaf~"),
    ],
)
def test_what_no_place_takes_is_mended(key: str, start: str) -> None:
    stem = stem_of(Identity("s.tar", key, False), by_shard=False, suffix="jpg")
    assert stem.is_mended
    assert stem.text.startswith(start)
    assert len(stem.text) == len(start) + 10


KEYS = st.one_of(st.text("aA.~2/\\\0j pg", max_size=8), st.text(max_size=40), st.sampled_from(["..", "a", "A", "a~2"]))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["s", "t", "s/x", "S"]), KEYS), max_size=12), st.booleans())
def test_names_are_distinct_and_safe_and_do_not_change_with_what_comes_later(
    found: list[tuple[str, str]], is_loose: bool
) -> None:
    if is_loose:
        images = loose(*dict.fromkeys(f"{source}/{key}.png" for source, key in found))
    else:
        images = [Identity(f"{source}.tar", key, False) for source, key in found]
    half = len(images) // 2
    by_shard_before, before = names_of({"c0": images[:half]})
    by_shard, named = names_of({"c0": images[:half], "c1": images[half:]})
    if by_shard == by_shard_before:
        assert all(named[image][: len(names)] == names for image, names in before.items())
    names = [name for each in named.values() for name in each]
    assert len(names) == len(images)
    assert len({name.casefold() for name in names}) == len(names)
    folders = {"/".join(name.split("/")[:depth]) for name in names for depth in range(1, name.count("/") + 1)}
    assert not {folder.casefold() for folder in folders} & {name.casefold() for name in names}
    for name in names:
        parts = name.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert not any(part.startswith(".") for part in parts)
        assert max(len(part.encode()) for part in parts) <= 255
        assert len(name.encode()) <= 1000
