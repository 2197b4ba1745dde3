"""A reference set in brief: its mean color is the mean of its images' means, and a key of two images is no key."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import saved, tar_of

from condgen.color.lab import rgb_to_lab
from condgen.errors import DatasetError
from pipelines.datasets.chunk import iter_chunks
from pipelines.evaluation.measures import MeasureSettings
from pipelines.evaluation.planning import open_reference
from pipelines.evaluation.references import KeyedReferences
from pipelines.evaluation.running import survey_reference
from pipelines.evaluation.survey import Survey, add_up, survey_chunks
from pipelines.storage.store import open_store

COLORS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (250, 250, 250))


def png(color: tuple[int, int, int]) -> bytes:
    return saved(Image.new("RGB", (20, 30), color))


def shards(folder: Path, keys: list[str]) -> str:
    """A sample a key, two to a shard, in the colors of `COLORS`."""
    for first in range(0, len(keys), 2):
        pair = enumerate(keys[first : first + 2], start=first)
        (folder / f"{first:03d}.tar").write_bytes(tar_of((f"{key}.png", png(COLORS[place])) for place, key in pair))
    return str(folder)


def surveyed(uri: str, **settings: object) -> Survey:
    found = open_reference(uri, samples=1)
    chunks = list(enumerate(iter_chunks(found.chunks)))
    kind = MeasureSettings(size_px=16, **settings)
    parts = [one for chunk in chunks for one in survey_chunks(found.store, [chunk], kind, {}, True)]
    return add_up(reversed(parts), kind)


def test_the_mean_color_is_the_mean_of_the_images(tmp_path: Path) -> None:
    found = surveyed(shards(tmp_path, ["a", "b", "c", "d"]))
    codes = torch.tensor(COLORS, dtype=torch.float64).T.reshape(3, 4, 1) / 255
    expected = rgb_to_lab(codes)[1:].mean(dim=(1, 2))
    assert found.images == 4
    assert found.mean == pytest.approx(expected.numpy(), abs=1e-3)


def test_the_mean_image_is_the_mean_of_codes(tmp_path: Path) -> None:
    found = surveyed(shards(tmp_path, ["a", "b", "c", "d"]), kind="translate")
    assert found.mean.shape == (16, 16, 3)
    assert found.mean.dtype == np.uint8
    assert found.mean[5, 5].tolist() == pytest.approx(np.mean(COLORS, axis=0).round().tolist(), abs=1)


def test_a_key_of_two_images_is_left_out_and_counted(tmp_path: Path) -> None:
    found = surveyed(shards(tmp_path, ["a", "b", "a", "d"]))
    assert found.keys["key"].to_pylist() == ["b", "d"]
    assert found.repeated == 1


def test_a_key_leads_to_its_image_and_an_unknown_one_nowhere(tmp_path: Path) -> None:
    uri = shards(tmp_path, ["a", "b", "c", "d"])
    reference, survey = open_reference(uri, samples=1), surveyed(uri)
    references = KeyedReferences(reference.store, reference.chunks, survey.keys, {})
    (chunk, *_) = iter_chunks(reference.chunks)
    found = references.find(chunk, [0, 0, 0, 0], ["d", "nobody", "a", "d"])
    assert [sample.key if sample else None for sample in found] == ["d", None, "a", "d"]
    assert found[0].members["png"] == png(COLORS[3])


def test_files_that_are_no_images_are_left_out_of_the_mean_and_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(COLORS[0]))
    (tmp_path / "b.png").write_text("no image")
    reference = open_reference(str(tmp_path))
    assert survey_reference(reference, MeasureSettings(size_px=16), on_ray=False).images == 1
    (tmp_path / "a.png").write_text("neither")
    with pytest.raises(DatasetError, match="no image that can be read"):
        survey_reference(open_reference(str(tmp_path)), MeasureSettings(size_px=16), on_ray=False)
    assert open_store(tmp_path).list()
