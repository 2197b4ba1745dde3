"""Images are encoded to the same bytes each time, beside other threads too, or refused."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import saved

from condgen.errors import ConfigError, ImageError
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode
from pipelines.images.icc import SRGB_PROFILE
from pipelines.images.metadata import read_metadata


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_encoding_is_deterministic_and_close(kind: str) -> None:
    y, x = np.mgrid[:32, :48]
    rgb = np.stack([x * 5, y * 7, x * 2 + y * 3], -1).astype(np.uint8)
    data = encode(rgb, kind, quality=95)
    assert data == encode(rgb.copy(), kind, quality=95)
    assert np.abs(decode(data).astype(int) - rgb).mean() < 2


def test_encoding_keeps_full_color_resolution_at_high_quality() -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    assert np.abs(decode(encode(stripes, "jpeg", 95)).astype(int) - stripes).mean() < 10


def test_encoding_refuses_other_formats_and_too_large_images() -> None:
    with pytest.raises(ConfigError, match="jpeg"):
        encode(np.zeros((1, 1, 3), np.uint8), "jpg2")
    with pytest.raises(ImageError, match="encode"):
        encode(np.zeros((1, 70_000, 3), np.uint8), "jpeg")
    with pytest.raises(ImageError, match="uint8"):
        encode(np.zeros((4, 4), np.uint8), "png")


def test_a_photograph_survives_a_way_through_jpeg(photos: Path) -> None:
    for path in sorted(photos.iterdir())[:3]:
        rgb = decode(path.read_bytes())
        assert np.abs(rgb.astype(int) - decode(encode(rgb, "jpeg", 95))).mean() < 4


def test_a_jpeg_has_the_same_bytes_where_other_threads_work_meanwhile() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (48, 70, 3), dtype=np.uint8)
    metadata = read_metadata(saved(Image.fromarray(rgb), "JPEG", dpi=(300, 300), icc_profile=SRGB_PROFILE))
    assert metadata.has_profile
    for quality in (80, 95):
        alone = encode(rgb, "jpeg", quality, metadata)
        assert encode(rgb, "jpeg", quality, metadata, beside_threads=True) == alone


def test_other_threads_work_while_a_jpeg_is_encoded_beside_them() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    encoded, turns = threading.Event(), 0

    def work() -> None:
        encode(rgb, "jpeg", beside_threads=True)
        encoded.set()

    thread, interval = threading.Thread(target=work), sys.getswitchinterval()
    sys.setswitchinterval(10.0)  # no thread asks another one for Python's lock
    try:
        thread.start()
        while not encoded.wait(0.001):
            turns += 1
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    assert turns >= 30  # some 16 with the lock held, 100 without
