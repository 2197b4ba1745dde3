"""Galleries for tests: with their indexes filled, and evaluations by hand beside results."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.viewer import commands
from pipelines.gallery.gallery import Gallery
from pipelines.gallery.stored_results import StoredResults
from pipelines.storage.cache import ChunkCache

__all__ = ["SIZES", "evaluate_by_hand", "open_gallery"]

SIZES = {f"album/{number}": (40 + number, 30) for number in range(8)}
"""Keys and sizes of the photographs that `gallery` shows (`tests/pipelines/gallery/conftest.py`)."""


class WatchedGallery(Gallery):
    """A gallery that can be waited for."""

    def wait(self, *, finished: bool = False, seconds: float = 60.0) -> None:
        """Wait until the indexes have all that is there; for a job that goes on, until there is more."""
        end = time.monotonic() + seconds
        before = self.first.results.num_chunks[0]
        while time.monotonic() < end:
            for one in self.shown:
                is_more = one.results.num_chunks[0] > before if one.results.run is None else True
                if not (one.filler.progress[0] == one.filler.progress[1] and is_more):
                    break
                if finished and one.results.run is None:
                    break
            else:
                return
            time.sleep(0.01)
        raise TimeoutError(str(self.progress()))


@contextmanager
def open_gallery(
    *results: str | Path, folder: Path, wait: bool = True, measure: Any = None, look_again_s: float = 3.0
) -> Iterator[WatchedGallery]:
    """A gallery of results, closed at the end; by default its indexes are whole."""
    opened = [StoredResults.open(str(one)) for one in results]
    cache = ChunkCache(str(folder / "thumbnails"), 1 << 24)
    gallery = WatchedGallery(opened, folder / "index", cache, commands, measure)
    for one in gallery.shown:
        one.filler.look_again_s = look_again_s
    if wait:
        gallery.start()
        end = time.monotonic() + 60
        while any(one.filler.progress[0] < one.filler.progress[1] for one in gallery.shown):
            assert time.monotonic() < end, gallery.progress()
            time.sleep(0.01)
    try:
        yield gallery
    finally:
        gallery.close()


def evaluate_by_hand(results: Path, values: Mapping[tuple[str, str], tuple[float | None, float | None]]) -> None:
    """Write an evaluation: colorfulness and PSNR of the draws as a whole, by source and key; grey has others."""
    rows: list[dict[str, Any]] = []
    for (source, key), (colorfulness, psnr) in values.items():
        row = {"source": source, "key": key, "draw": -1, "colorfulness": colorfulness, "psnr": psnr}
        rows += [
            {**row, "answer": "grey", "colorfulness": 0.0, "psnr": 1.0},
            {**row, "answer": "draws"},
            {**row, "answer": "draws", "draw": 0, "colorfulness": 99.0},
        ]
    schema = pa.schema(
        [(name, pa.string()) for name in ("source", "key", "answer")]
        + [("draw", pa.int32()), *((name, pa.float64()) for name in ("colorfulness", "psnr"))]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), results / "evaluation.parquet", row_group_size=7)
    (results / "evaluation.json").write_text(json.dumps({"format": "condgen-evaluation-1"}))
