"""docs/pipelines.md: every Python block of the page runs, and gives what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from samples import paired_dataset, single_dataset

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pipelines.md"


def blocks() -> dict[str, str]:
    """The page's Python blocks by the heading above each."""
    found: dict[str, str] = {}
    for section in re.split(r"^#{2,3} ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
            assert title not in found
            found[title] = code
    return found


def run(heading: str, **names: Any) -> dict[str, Any]:
    """Run the block under a heading that begins so; its functions travel by value, as those of a script do."""
    (code,) = [code for title, code in blocks().items() if title.startswith(heading)]
    scope: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(code, str(PAGE), "exec"), scope)  # noqa: S102  # the page's own code is what is tested
    return scope


def test_the_page_has_five_compositions() -> None:
    assert len(blocks()) == 5


def test_photographs_for_colorization(ray_cluster: None, tmp_path: Path) -> None:
    uri = single_dataset(tmp_path / "photos", 100, bad=frozenset({7, 70}))
    scope = run("1.", PHOTOS=uri)
    assert scope["rgb"].shape[1:] == (64, 64, 3)
    assert scope["counts"] == {"decode: NotAnImage": 2, "read": 98}


def test_pairs_with_joint_augmentation(ray_cluster: None, tmp_path: Path) -> None:
    scope = run("2.", PAIRS=paired_dataset(tmp_path / "pairs", 8))
    assert [tuple(tensor.shape) for tensor in scope["batch"].values()] == [(4, 32, 32, 3)] * 2


def test_two_unpaired_domains(ray_cluster: None, tmp_path: Path) -> None:
    horses, zebras = single_dataset(tmp_path / "horses", 9), single_dataset(tmp_path / "zebras", 30)
    scope = run("3.", HORSES=horses, ZEBRAS=zebras)
    assert sorted(row["target_key"] for row in scope["rows"]) == [f"{number:05d}" for number in range(30)]
    assert {row["key"] for row in scope["rows"]} == {f"{number:05d}" for number in range(9)}


def test_a_mixture_of_two_datasets(ray_cluster: None, tmp_path: Path) -> None:
    scope = run("4.", PHOTOS=single_dataset(tmp_path / "photos", 200), ART=single_dataset(tmp_path / "art", 30))
    rows = sum(len(batch["key"]) for batch in scope["batches"])
    assert abs(rows - 100) < 4 * (200 * 0.35 * 0.65) ** 0.5  # 30 of art and 35 % of the photographs


def test_filter_count_and_write(ray_cluster: None, tmp_path: Path) -> None:
    scope = run("5.", PHOTOS=single_dataset(tmp_path / "photos", 60), OUT=str(tmp_path / "out"))
    assert scope["counts"] == {"kept": 50, "low number": 10}
    assert pq.read_table(tmp_path / "out").num_rows == 50
