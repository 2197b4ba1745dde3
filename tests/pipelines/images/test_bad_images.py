"""Random bad files: each is a picture or an ImageError, in bounded time and memory, with the same words every time.

They are examined in processes of their own, since what is feared most is a crash. `make soak` takes many more of them.
"""

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_images import bad_images, bombs, write_bad_archive
from whole_images import whole_images

from condgen.errors import ImageError
from pipelines.images.decoding import decode, probe
from pipelines.images.encoding import encode
from pipelines.images.metadata import Metadata, read_metadata

pytestmark = [pytest.mark.soak, pytest.mark.slow]

TESTS = Path(__file__).parents[2]
COUNT = int(os.environ.get("SOAK_FILES", "300"))
SEED = os.environ.get("SOAK_SEED", "0")
MAX_PIXELS = 1_000_000
MAX_GROWTH_BYTES = 128 << 20
MAX_ADDRESS_BYTES = 8 << 30
MAX_SECONDS_A_FILE = 5.0
CANONICAL = re.compile(r"[^\n]{1,360}")
NOT_CANONICAL = re.compile(r"0x[0-9a-f]{4,}|<.*>|BytesIO|/tmp|/home|/usr|\.py|\d\d:\d\d:\d\d| at 0x")

Verdict = list[Any]


def kept(metadata: Metadata) -> str:
    """A digest of pictures of each format that carry what was read."""
    if metadata == Metadata():
        return "none"
    files = [encode(np.zeros((2, 2, 3), np.uint8), kind, metadata=metadata) for kind in ("jpeg", "png", "webp", "tiff")]
    for file in files:
        assert decode(file).shape == (2, 2, 3)
        assert read_metadata(file).exif == metadata.exif
    return hashlib.sha256(b"".join(files)).hexdigest()[:16]


def examine(data: bytes) -> dict[str, Verdict]:
    """What each function says of a file."""

    def said(function: Callable[[], Any]) -> Verdict:
        try:
            found = function()
        except ImageError as error:
            return ["ImageError", error.stage, error.error, str(error)]
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            return ["OTHER", type(error).__name__, str(error)]
        if isinstance(found, np.ndarray):
            return ["picture", list(found.shape), str(found.dtype), hashlib.sha256(found.tobytes()).hexdigest()[:16]]
        return ["value", repr(found)]

    return {
        "probe": said(lambda: probe(data, max_pixels=MAX_PIXELS)),
        "decode": said(lambda: decode(data, max_pixels=MAX_PIXELS)),
        "small": said(lambda: decode(data, max_pixels=MAX_PIXELS, min_size_px=8)),
        "deep": said(lambda: decode(data, max_pixels=MAX_PIXELS, keep_16_bit=True)),
        "metadata": said(lambda: read_metadata(data)),
        "kept": said(lambda: kept(read_metadata(data))),
    }


def memory_bytes(of: str) -> int:
    """The process's own `VmRSS`, or `VmHWM`, its peak; `ru_maxrss` also counts its parent's at the fork."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(of))
    return int(line.split()[1]) << 10


def main(count: int, seed: int) -> None:
    """Examine the corpus, a line of JSON a file: what was said, seconds, and what the peak of memory has grown by."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, MAX_ADDRESS_BYTES))  # for the machine's sake
    files = list(bad_images(count, seed))
    for data in whole_images().values():
        examine(data)  # all that is loaded on the way is
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what it has
    before = memory_bytes("VmRSS")
    for file in files:
        started = time.perf_counter()
        verdicts = examine(file.data)
        said = {"name": file.name, "verdicts": verdicts, "seconds": time.perf_counter() - started}
        print(json.dumps({**said, "grown": memory_bytes("VmHWM") - before}), flush=True)


def examined() -> Iterator[dict[str, Any]]:
    paths = os.pathsep.join(str(path) for path in (TESTS, TESTS.parent))
    run = subprocess.run(
        [sys.executable, __file__, str(COUNT), SEED],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    last = lines[-1]["name"] if lines else "none"
    assert run.returncode == 0, f"crashed after {last}: {run.stderr[-2000:]}"
    yield from lines


@pytest.fixture(scope="module")
def corpus() -> list[dict[str, Any]]:
    return list(examined())


def test_each_bad_file_is_a_image_or_an_image_error(corpus: list[dict[str, Any]]) -> None:
    assert len(corpus) == COUNT
    assert not [(file["name"], said) for file in corpus for said in file["verdicts"].values() if said[0] == "OTHER"]
    pictures = [said for file in corpus for said in file["verdicts"].values() if said[0] == "picture"]
    for _, shape, dtype, _ in pictures:
        assert len(shape) == 3
        assert shape[2] == 3
        assert 0 < shape[0] * shape[1] <= MAX_PIXELS
        assert dtype in ("uint8", "uint16")
    refused = [file for file in corpus if file["verdicts"]["decode"][0] == "ImageError"]
    assert 0.2 * COUNT < len(refused) < 0.9 * COUNT  # neither harmless nor hopeless


def test_the_words_of_errors_are_canonical(corpus: list[dict[str, Any]]) -> None:
    errors = [said for file in corpus for said in file["verdicts"].values() if said[0] == "ImageError"]
    for _, stage, error, message in errors:
        assert stage == "decode"
        assert error.isidentifier()
        assert CANONICAL.fullmatch(message)
        assert not NOT_CANONICAL.search(message), message


def test_the_functions_agree_with_each_other(corpus: list[dict[str, Any]]) -> None:
    for file in corpus:
        verdicts = file["verdicts"]
        assert verdicts["metadata"][0] == "value", file
        assert verdicts["kept"][0] == "value", file
        if verdicts["decode"][0] == "picture":
            height, width, _ = verdicts["decode"][1]
            assert verdicts["probe"][1].startswith(f"ImageInfo(width={width}, height={height},"), file
            assert verdicts["decode"][2] == "uint8"
            if verdicts["deep"][0] == "picture":
                assert verdicts["deep"][1] == verdicts["decode"][1], file
        if verdicts["deep"][0] == "picture" and verdicts["deep"][2] == "uint8":
            assert verdicts["deep"] == verdicts["decode"], file


def test_time_and_memory_are_bounded(corpus: list[dict[str, Any]]) -> None:
    slow = [(file["name"], file["seconds"]) for file in corpus if file["seconds"] > MAX_SECONDS_A_FILE]
    assert not slow
    assert corpus[-1]["grown"] < MAX_GROWTH_BYTES, next(f["name"] for f in corpus if f["grown"] > MAX_GROWTH_BYTES)


def test_another_process_says_the_same(corpus: list[dict[str, Any]]) -> None:
    for one, other in zip(corpus, examined(), strict=True):
        assert (one["name"], one["verdicts"]) == (other["name"], other["verdicts"])


def test_a_folder_of_bad_files_has_its_share_of_whole_ones(tmp_path: Path) -> None:
    good = write_bad_archive(tmp_path / "archive", 120)
    files = {path.name: path.read_bytes() for path in (tmp_path / "archive").iterdir()}
    assert len(files) == 120
    assert len(good) == 12
    for name in good:
        assert decode(files[name]).ndim == 3
    assert any(name.endswith("empty.jpg") for name in files)
    assert write_bad_archive(tmp_path / "again", 120) == good
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == files


def test_each_bomb_is_refused_or_small() -> None:
    for name, data in bombs().items():
        assert len(data) < 3 << 20, name
        assert read_metadata(data) == Metadata() or name.endswith((".png", ".jpg", ".jp2", ".tif")), name
    for name in ("real.png", "claimed.png", "claimed.jpg", "claimed.gif", "claimed.tif", "real.tif", "claimed.jp2"):
        with pytest.raises(ImageError) as caught:
            decode(bombs()[name], max_pixels=MAX_PIXELS)
        assert caught.value.error == "TooManyPixels", name


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
