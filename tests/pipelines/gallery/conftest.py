"""Results that the gallery's tests look at."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from drawn_results import DrawnResults
from galleries import SIZES, evaluate_by_hand, open_gallery
from small_results import write_picture

from pipelines.gallery.gallery import Gallery


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of eight images and a broken one, with an evaluation."""
    root = tmp_path_factory.mktemp("photographs")
    for number, (key, size) in enumerate(SIZES.items()):
        write_picture(root / f"archive/{key}.png", number, size)
    (root / "archive/broken.jpg").write_bytes(b"nothing")
    DrawnResults(root / "archive", root / "results").make()
    values = {key: (float(number % 3), None if number == 5 else 20.0 - number) for number, key in enumerate(SIZES)}
    evaluate_by_hand(root / "results", {(f"{key}.png", key): value for key, value in values.items()})
    return root


@pytest.fixture
def gallery(photographs: Path, tmp_path: Path, opened: ExitStack) -> Gallery:
    return opened.enter_context(open_gallery(photographs / "results", folder=tmp_path))
