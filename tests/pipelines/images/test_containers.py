"""HEIC, AVIF and JPEG XL are decoded as phones and viewers show them, and told apart by all of their brands.

The files in `data/` are of four plain quarters. pillow-heif (libheif and x265) and cjxl made them; the grid of four
tiles was put together by hand. The orientations are those of EXIF, told by `irot` and `imir` as well.
"""

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from condgen.errors import ImageError
from pipelines.images.decoding import decode, probe
from pipelines.images.formats import EXTENSIONS, FORMATS
from pipelines.images.metadata import read_metadata

DATA = Path(__file__).with_name("data")
RED, GREEN, BLUE, WHITE = (200, 30, 40), (20, 180, 60), (30, 40, 190), (230, 220, 210)
UPRIGHT = [RED, GREEN, BLUE, WHITE]
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (24, 36, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (24, 36, 3), dtype=np.uint16)


def file(name: str) -> bytes:
    return (DATA / name).read_bytes()


def quarters(pixels: NDArray[Any]) -> list[list[int]]:
    """The colors in the middles of the quarters, row by row."""
    height, width, _ = pixels.shape
    return [pixels[int(y * height), int(x * width)].tolist() for y in (0.25, 0.75) for x in (0.25, 0.75)]


def assert_shows(pixels: NDArray[Any], colors: list[tuple[int, ...]], tolerance: int = 7) -> None:
    assert np.abs(np.array(quarters(pixels)) - np.array(colors)).max() <= tolerance, quarters(pixels)


@pytest.mark.parametrize(("name", "colors", "size"), [
    ("plain", UPRIGHT, (64, 48)),
    ("orientation2", [GREEN, RED, WHITE, BLUE], (64, 48)),
    ("orientation3", [WHITE, BLUE, GREEN, RED], (64, 48)),
    ("orientation5", [RED, BLUE, GREEN, WHITE], (48, 64)),
    ("orientation6", [BLUE, RED, WHITE, GREEN], (48, 64)),
    ("orientation8", [GREEN, WHITE, RED, BLUE], (48, 64)),
    ("second", UPRIGHT, (64, 48)),  # two images, of which the second is the primary one; the first is upside down
    ("grid", UPRIGHT, (120, 100)),  # four tiles of 64 px, cropped
    ("grid-turned", [BLUE, RED, WHITE, GREEN], (100, 120)),
    ("alpha", [(255, 255, 255), (137, 217, 157), BLUE, WHITE], (64, 48)),
    ("grey", [(83, 83, 83), (119, 119, 119), (54, 54, 54), (222, 222, 222)], (64, 48)),
])  # fmt: skip
def test_a_heic_is_shown_as_it_is_meant(name: str, colors: list[tuple[int, ...]], size: tuple[int, int]) -> None:
    data = file(f"{name}.heic")
    assert_shows(decode(data), colors, 3)
    info = probe(data)
    assert (info.width, info.height, info.format) == (*size, "HEIF")
    assert {"heic", "heif", "hif", FORMATS["HEIF"]} <= EXTENSIONS


def test_a_heic_of_10_bits_keeps_them() -> None:
    deep = decode(file("ten.heic"), keep_16_bit=True)
    assert deep.dtype == np.uint16
    assert_shows(deep, [tuple(value * 257 for value in color) for color in UPRIGHT], 2 * 257)
    assert np.unique(deep % 257).size > 4  # 1023 steps are not 255
    assert_shows(decode(file("ten.heic")), UPRIGHT, 2)


def test_what_a_heic_tells_of_its_colors_is_followed() -> None:
    """A profile with red and green swapped; Display P3 by code points: P3's matrix to sRGB, as computed by hand."""
    swapped = [(color[1], color[0], color[2]) for color in UPRIGHT]
    assert_shows(decode(file("profile.heic")), swapped, 3)
    to_linear = lambda v: np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)  # noqa: E731
    to_srgb = lambda v: np.where(v <= 0.0031308, v * 12.92, 1.055 * np.maximum(v, 0) ** (1 / 2.4) - 0.055)  # noqa: E731
    p3_to_srgb = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
    linear = to_linear(np.array(UPRIGHT) / 255) @ p3_to_srgb.T
    shown = (to_srgb(linear).clip(0, 1) * 255).round().astype(int)
    assert_shows(decode(file("p3.heic")), [tuple(color) for color in shown.tolist()], 4)


def test_a_heics_exif_is_kept_and_not_followed_a_second_time() -> None:
    metadata = read_metadata(file("orientation6.heic"))
    exif = Image.Exif()
    exif.load(metadata.exif)
    assert (exif[271], exif[274]) == ("Maker", 1)


@pytest.mark.parametrize("name", ["plain.heic", "grid.heic", "lossy.jxl", "animated.jxl", "orientation6.jxl"])
def test_what_is_cut_or_too_large_is_an_error(name: str) -> None:
    data = file(name)
    for part in (0.05, 0.5, 0.98):
        with pytest.raises(ImageError):
            decode(data[: int(len(data) * part)])
    with pytest.raises(ImageError, match="more than the 100 allowed"):
        decode(data, max_pixels=100)
    with pytest.raises(ImageError, match="more than the 100 allowed"):
        probe(data, max_pixels=100)


@pytest.mark.parametrize("name", ["plain", "ten", "grid", "grid-turned", "second"])
def test_zeros_in_place_of_a_heics_data_are_damage(name: str) -> None:
    """libde265 shows grey, or what it made of the rest, and does not complain."""
    data = file(f"{name}.heic")
    start = data.index(b"mdat") + 4
    for first, last in ((len(data) - 40, len(data)), (start + (len(data) - start) // 2, len(data))):
        with pytest.raises(ImageError):
            decode(data[:first] + bytes(last - first) + data[last:])


@pytest.mark.parametrize(("name", "colors", "size"), [
    ("lossy", UPRIGHT, (64, 48)),
    ("orientation6", [BLUE, RED, WHITE, GREEN], (48, 64)),
    ("animated", UPRIGHT, (64, 48)),  # the second frame is the negative
    ("profile-lossy", [(color[1], color[0], color[2]) for color in UPRIGHT], (64, 48)),
    ("profile-lossless", [(color[1], color[0], color[2]) for color in UPRIGHT], (64, 48)),
])  # fmt: skip
def test_a_jpeg_xl_is_shown_as_it_is_meant(name: str, colors: list[tuple[int, ...]], size: tuple[int, int]) -> None:
    data = file(f"{name}.jxl")
    assert_shows(decode(data), colors)
    info = probe(data)
    assert (info.width, info.height, info.format) == (*size, "JPEGXL")
    assert FORMATS["JPEGXL"] in EXTENSIONS


@pytest.mark.parametrize("container", [False, True])
def test_a_lossless_jpeg_xl_keeps_every_value(container: bool) -> None:
    for pixels in (RGB, RGB[..., 0].copy()):
        data = bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, usecontainer=container))
        expected = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)
        assert np.array_equal(decode(data, keep_16_bit=True), expected)
        assert (probe(data).width, probe(data).height) == (36, 24)
    rgba = np.dstack([RGB, np.full((24, 36), 128, np.uint8)])
    shown = decode(bytes(imagecodecs.jpegxl_encode(rgba, lossless=True)))
    assert np.abs(shown - (RGB * (128 / 255) + 127)).max() <= 1
    deep = decode(file("deep.jxl"), keep_16_bit=True)
    assert np.array_equal(deep, imagecodecs.png_decode(file("deep.png")))
    assert np.unique(deep % 257).size > 100
    assert np.array_equal(decode(file("deep.jxl")), (deep.astype(int) * 255 + 32767) // 65535)


def test_a_jpeg_xl_of_linear_light_is_shown_in_srgb() -> None:
    """imagecodecs marks what has 16 bits as linear, grey as well; the curve is that of IEC 61966-2-1."""
    for pixels in (DEEP, DEEP[..., 0].copy()):
        linear = (pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)) / 65535
        expected = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055) * 65535
        shown = decode(bytes(imagecodecs.jpegxl_encode(pixels, lossless=True)), keep_16_bit=True)
        assert np.abs(shown - expected).max() <= 65535 * 0.004


@pytest.mark.parametrize(("width", "height"), [
    (1, 1), (8, 8), (256, 256), (300, 200), (512, 512), (600, 500), (1024, 768), (96, 72), (1600, 900), (700, 3),
    (2, 9000), (640, 320), (160, 96),
])  # fmt: skip
def test_sizes_of_jpeg_xl_are_read_from_every_form_of_its_header(width: int, height: int) -> None:
    """Sizes that are multiples of 8 up to 256, and sides in a known ratio, are written more shortly."""
    data = bytes(imagecodecs.jpegxl_encode(np.zeros((height, width), np.uint8), effort=1))
    assert (probe(data).width, probe(data).height) == (width, height)


def test_a_jpeg_that_was_packed_into_a_jpeg_xl_is_decoded_as_that_jpeg() -> None:
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG", quality=90, exif=exif, dpi=(300, 300))
    packed = bytes(imagecodecs.jpegxl_encode_jpeg(buffer.getvalue()))
    assert np.array_equal(decode(packed), decode(buffer.getvalue()))
    assert read_metadata(packed) == read_metadata(buffer.getvalue())
    assert (probe(packed).width, probe(packed).height) == (24, 36)


def branded(data: bytes, major: bytes, *compatible: bytes) -> bytes:
    """A file of boxes with other brands; offsets within it are moved with them."""
    length = int.from_bytes(data[:4], "big")
    body = b"ftyp" + major + bytes(4) + b"".join(compatible)
    head = struct.pack(">I", len(body) + 4) + body
    assert len(head) <= length
    room = length - len(head)
    return head + (struct.pack(">I", room) + b"free" + bytes(room - 8) if room else b"") + data[length:]


def avif() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "AVIF", quality=90, speed=10)
    return buffer.getvalue()


def test_any_brand_tells_what_a_file_is_and_not_the_first_alone() -> None:
    data = avif()
    for brands in ((b"mif1", b"avif"), (b"mif1", b"miaf", b"avif"), (b"miaf", b"avif", b"mif1"), (b"mif1", b"miaf"),
                   (b"MA1B", b"avif")):  # fmt: skip
        assert probe(branded(data, *brands)).format == "AVIF", brands
        assert np.array_equal(decode(branded(data, *brands)), decode(data)), brands
    heic = file("plain.heic")
    for brands in (
        (b"mif1", b"heic"), (b"mif1", b"mif1", b"miaf", b"MiHB"), (b"msf1", b"heic"), (b"heix", b"mif1"),
        (b"miaf", b"mif1"), (b"tmap", b"heic"),
    ):  # fmt: skip
        assert probe(branded(heic, *brands)).format == "HEIF", brands
        assert np.array_equal(decode(branded(heic, *brands)), decode(heic)), brands
    for film in ((b"isom", b"mp42"), (b"qt  ",), (b"M4A ", b"isom")):
        with pytest.raises(ImageError) as caught:
            decode(branded(data, *film))
        assert caught.value.error == "NotAnImage"
