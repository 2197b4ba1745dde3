"""TIFFs that can't be decoded: an error says why in plain words, and the terminal hears nothing of libtiff's."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from condgen.errors import ImageError
from pipelines.images.decoding import decode, probe

RGB = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)


def tiff(compression: str) -> bytes:
    sink = io.BytesIO()
    tifffile.imwrite(sink, RGB, compression=compression, photometric="rgb")
    return sink.getvalue()


def error_of(data: bytes) -> ImageError | None:
    try:
        decode(data, max_pixels=1 << 20)
    except ImageError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("compression", "name"),
    [
        ("jpeg2000", "JPEG 2000"), ("jpegxl", "JPEG XL"), ("jpegxr", "JPEG XR"), ("lerc", "LERC"), ("png", "PNG"),
        ("webp", "WebP"),
    ],
)  # fmt: skip
def test_a_sound_tiff_of_another_compression_is_not_called_damaged(
    compression: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tiff(compression)
    with pytest.raises(ImageError, match=f"Unsupported: a TIFF with {name} inside.*save it with"):
        decode(data)
    with pytest.raises(ImageError, match="Unsupported"):
        probe(data)
    assert capfd.readouterr() == ("", "")


def test_a_compression_that_nobody_knows_is_named_by_its_number() -> None:
    data = tiff("jpeg2000")
    entry = struct.pack("<HHI", 259, 3, 1)
    place = data.index(entry) + len(entry)
    with pytest.raises(ImageError, match="compression 65001 inside"):
        decode(data[:place] + struct.pack("<H", 65001) + data[place + 2 :])


@pytest.mark.parametrize("compression", ["deflate", "lzw", "packbits", "zstd", "lzma", "jpeg"])
def test_damage_is_told_in_words_and_libtiff_writes_nothing(
    compression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tiff(compression)
    for damaged in (data[: len(data) // 2], data[:-700] + b"\xff" * 600 + data[-100:], data[:300]):
        error = error_of(damaged)
        if error is not None:
            assert error.error == "Damaged"
            assert not any(word in error.detail for word in ("decoder error", "Error", "0x", "object"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["PNG", "GIF", "BMP", "PPM", "WEBP", "JPEG2000", "AVIF", "TIFF"])
def test_no_error_of_an_image_has_the_name_of_a_class_of_pythons(name: str) -> None:
    sink = io.BytesIO()
    Image.fromarray(RGB).save(sink, name)
    data = sink.getvalue()
    noise = np.random.default_rng(1)
    for _ in range(60):
        bad = bytearray(data[: int(noise.integers(8, len(data)))])
        for place in noise.integers(4, len(bad), 6):
            bad[place] = noise.integers(256)
        error = error_of(bytes(bad))
        assert error is None or not error.error.endswith(("Error", "Exception"))
