"""A PNG is decoded as viewers show it: what is beside its image may be damaged or large, the image's data may not."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from condgen.errors import ImageError
from pipelines.images.decoding import decode, probe

RGB = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
DEEP = np.random.default_rng(0).integers(0, 65536, (24, 36, 3), dtype=np.uint16)


def chunk(kind: bytes, body: bytes, wrong: int = 0) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ wrong)


def png(before: bytes = b"", after: bytes = b"", pixels: np.ndarray = RGB) -> bytes:
    """A PNG by hand, with chunks before and after its image's data."""
    height, width, _ = pixels.shape
    depth = pixels.itemsize * 8
    rows = b"".join(b"\0" + row.astype(f">u{pixels.itemsize}").tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + chunk(b"IEND", b"")


BESIDE = {
    "text": (b"tEXt", b"Title\0an old photograph"),
    "packed text": (b"zTXt", b"Comment\0\0" + zlib.compress(b"a comment " * 90)),
    "international text": (b"iTXt", b"Title\0\0\0de\0Titel\0Bild"),
    "time": (b"tIME", bytes((7, 208, 1, 2, 3, 4, 5))),
    "resolution": (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
    "profile": (b"iCCP", b"name\0\0" + zlib.compress(b"not a profile")),
    "exif": (b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0" + bytes(4)),
    "private": (b"prVt", b"a program's own"),
    "color key": (b"tRNS", bytes(6)),
}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("pixels", [RGB, DEEP], ids=["8 bits", "16 bits"])
def test_an_ancillary_chunk_with_a_wrong_checksum_is_passed_over(kind: str, pixels: np.ndarray) -> None:
    """libpng warns and leaves it out, and so do the viewers that use it."""
    wrong = chunk(*BESIDE[kind], wrong=1)
    for data in (png(wrong, pixels=pixels), png(b"", wrong, pixels), png(wrong, wrong, pixels)):
        assert np.array_equal(decode(data, keep_16_bit=True), pixels)
        assert (probe(data).width, probe(data).height) == (36, 24)


@pytest.mark.parametrize("size", [1 << 20, 3 << 20, 40 << 20])
@pytest.mark.parametrize("pixels", [RGB, DEEP], ids=["8 bits", "16 bits"])
def test_texts_may_be_of_any_length(size: int, pixels: np.ndarray) -> None:
    packed = zlib.compress(b"x" * size)
    texts = [
        chunk(b"zTXt", b"Comment\0\0" + packed), chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed),
        chunk(b"tEXt", b"Comment\0" + b"x" * min(size, 3 << 20)),
    ]  # fmt: skip
    for text in texts:
        assert np.array_equal(decode(png(text, pixels=pixels), keep_16_bit=True), pixels)
        assert np.array_equal(decode(png(b"", text, pixels), keep_16_bit=True), pixels)
    assert np.array_equal(decode(png(texts[0] * 100, pixels=pixels), keep_16_bit=True), pixels)


@pytest.mark.parametrize("pixels", [RGB, DEEP], ids=["8 bits", "16 bits"])
def test_a_wrong_checksum_of_the_images_own_data_is_an_error(pixels: np.ndarray) -> None:
    whole = png(pixels=pixels)
    for kind in (b"IHDR", b"IDAT"):
        place = whole.index(kind)
        stop = place + 4 + int.from_bytes(whole[place - 4 : place], "big")
        damaged = whole[:stop] + bytes((whole[stop] ^ 1,)) + whole[stop + 1 :]
        with pytest.raises(ImageError, match=f"checksum of the PNG's {kind.decode()} chunk"):
            decode(damaged)
    palette = io.BytesIO()
    Image.fromarray(RGB).quantize(16).save(palette, "PNG")
    data = palette.getvalue()
    place = data.index(b"PLTE")
    with pytest.raises(ImageError, match="PLTE"):
        decode(data[: place + 5] + bytes((data[place + 5] ^ 1,)) + data[place + 6 :])


@pytest.mark.slow
def test_a_large_profile_is_followed_and_one_that_unpacks_to_gigabytes_is_not() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ").replace(b"tmp_", b"gXYZ")
    padded = swapped + bytes(3 << 20)
    large = struct.pack(">I", len(padded)) + padded[4:]
    shown = decode(png(chunk(b"iCCP", b"name\0\0" + zlib.compress(large))))
    assert np.abs(shown[..., 0].astype(int) - RGB[..., 1]).max() <= 3
    bomb = chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(200 << 20)))
    assert np.array_equal(decode(png(bomb)), RGB)


def test_the_rest_of_a_png_is_read_as_by_libpng() -> None:
    data = png(chunk(*BESIDE["text"], wrong=1) + chunk(b"gAMA", struct.pack(">I", 45455)), chunk(*BESIDE["time"]))
    assert np.array_equal(decode(data), imagecodecs.png_decode(data))
