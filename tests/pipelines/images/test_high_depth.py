"""Pictures of 16 bits a channel come back whole where that is asked for; TIFFs of pages and planes; JPEG 2000.

The expectations are arrays that tifffile or imagecodecs stored without loss.
"""

import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms
from whole_images import with_chunk

from condgen.errors import ImageError
from pipelines.images.decoding import decode, probe
from pipelines.images.encoding import encode

DEEP = np.random.default_rng(0).integers(0, 65536, (37, 53, 3), dtype=np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def to_8_bits(values: NDArray[Any], white: int = 65535) -> NDArray[np.int64]:
    return np.rint(values.astype(float) * 255 / white).astype(np.int64)


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **({"photometric": "rgb" if pixels.ndim == 3 else "minisblack"} | options))
    return buffer.getvalue()


def jpeg2000(pixels: NDArray[np.uint16], **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, 0, reversible=True, **options))


def deep(data: bytes) -> NDArray[np.uint16]:
    rgb = decode(data, keep_16_bit=True)
    assert rgb.dtype == np.uint16
    assert rgb.flags.c_contiguous
    return rgb.astype(np.uint16)


@pytest.mark.parametrize("options", [
    {}, {"byteorder": ">"}, {"compression": "zlib", "byteorder": ">"}, {"compression": "zlib", "predictor": True},
    {"tile": (16, 16)}, {"tile": (16, 16), "compression": "lzw"}, {"compression": "lzw", "rowsperstrip": 5},
    {"bigtiff": True},
])  # fmt: skip
@pytest.mark.parametrize("planes", ["together", "apart", "grey"])
def test_a_tiff_of_16_bits_keeps_every_value(options: dict[str, Any], planes: str) -> None:
    if planes == "apart":
        data, expected = tiff(np.moveaxis(DEEP, -1, 0).copy(), planarconfig="separate", **options), DEEP
    elif planes == "grey":
        data, expected = tiff(DEEP[..., 0].copy(), **options), np.repeat(DEEP[..., :1], 3, -1)
    else:
        data, expected = tiff(DEEP, **options), DEEP
    np.testing.assert_array_equal(deep(data), expected)
    assert np.abs(decode(data).astype(int) - to_8_bits(expected)).max() <= 1


@pytest.mark.parametrize("planes", ["together", "apart", "grey"])
@pytest.mark.parametrize(("orientation", "turned"), [(3, np.rot90(DEEP, 2)), (6, np.rot90(DEEP, -1))])
def test_a_deep_tiff_is_turned(planes: str, orientation: int, turned: NDArray[np.uint16]) -> None:
    tags = [(274, 3, 1, orientation, True)]
    if planes == "apart":
        data = tiff(np.moveaxis(DEEP, -1, 0).copy(), planarconfig="separate", extratags=tags)
    else:
        data = tiff(DEEP if planes == "together" else DEEP[..., 0].copy(), extratags=tags)
    expected = np.repeat(turned[..., :1], 3, -1) if planes == "grey" else turned
    np.testing.assert_array_equal(deep(data), expected)
    assert (probe(data).height, probe(data).width) == expected.shape[:2]


def test_8_bit_planes_apart_are_read_too() -> None:
    pixels = (DEEP >> 8).astype(np.uint8)
    for options in ({}, {"tile": (16, 16)}, {"compression": "zlib"}):
        data = tiff(np.moveaxis(pixels, -1, 0).copy(), planarconfig="separate", **options)
        np.testing.assert_array_equal(decode(data, keep_16_bit=True), pixels)


def test_a_png_of_16_bits_keeps_every_value_interlaced_or_with_transparency() -> None:
    np.testing.assert_array_equal(deep(imagecodecs.png_encode(DEEP)), DEEP)
    grey = np.ascontiguousarray(DEEP[..., 0])
    np.testing.assert_array_equal(deep(imagecodecs.png_encode(grey))[..., 2], grey)
    alpha = np.random.default_rng(1).integers(0, 65536, (37, 53, 1), dtype=np.uint16)
    data = imagecodecs.png_encode(np.concatenate([DEEP, alpha], -1))
    share = alpha / 65535
    assert np.abs(deep(data) - (DEEP * share + 65535 * (1 - share))).max() <= 0.51
    keyed = with_chunk(imagecodecs.png_encode(DEEP), b"tRNS", DEEP[3, 4].astype(">u2").tobytes())
    expected = DEEP.copy()
    expected[3, 4] = 65535
    np.testing.assert_array_equal(deep(keyed), expected)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_deep_png_is_turned(orientation: int) -> None:
    exif = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)
    data = with_chunk(imagecodecs.png_encode(DEEP), b"eXIf", exif)
    np.testing.assert_array_equal(deep(data), np.rot90(DEEP, 2 if orientation == 3 else -1))


@pytest.mark.parametrize("codec", ["jp2", "j2k"])
@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_2000_of_more_than_8_bits_is_scaled_to_16(codec: str, bits: int, channels: int) -> None:
    values = DEEP >> (16 - bits) if channels == 3 else DEEP[..., 0] >> (16 - bits)
    white = (1 << bits) - 1
    data = jpeg2000(values, codecformat=codec, bitspersample=bits)
    expected = np.rint(values.astype(float) * 65535 / white)
    if channels == 1:
        expected = np.repeat(expected[..., None], 3, -1)
        values = np.repeat(values[..., None], 3, -1)
    np.testing.assert_array_equal(deep(data), expected)
    assert np.abs(decode(data).astype(int) - to_8_bits(values, white)).max() <= 1


def test_what_has_8_bits_stays_so_and_is_the_same_with_and_without_keeping() -> None:
    pixels = (DEEP >> 8).astype(np.uint8)
    grey = np.ascontiguousarray(pixels[..., 0])
    files = [encode(pixels, kind) for kind in ("jpeg", "png", "webp", "tiff")]
    files += [bytes(imagecodecs.jpeg2k_encode(pixels, 0, reversible=True)), imagecodecs.png_encode(grey)]
    for data in files:
        kept = decode(data, keep_16_bit=True)
        assert kept.dtype == np.uint8
        np.testing.assert_array_equal(kept, decode(data))


def _linear(profile: bytes) -> bytes:
    """The profile with gamma 1 in place of its curve."""
    at = profile.index(b"para")
    return profile[:at] + b"para" + struct.pack(">IHHi", 0, 0, 0, 65536) + profile[at + 16 :]


def test_a_profile_is_followed_at_16_bits_as_at_8_and_finer() -> None:
    ramp = np.repeat(np.linspace(0, 65535, 4096).round().astype(np.uint16)[None, :, None], 3, -1)
    linear = ramp / 65535
    expected = 65535 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    for data in (
        with_chunk(imagecodecs.png_encode(ramp), b"iCCP", b"p\0\0" + zlib.compress(_linear(SRGB))),
        tiff(ramp, iccprofile=_linear(SRGB)),
    ):
        shown = deep(data)
        assert np.abs(shown - expected).max() < 200
        assert len(np.unique(shown[..., 0])) > 3000
        assert np.abs(to_8_bits(shown)[:, 600:] - decode(data)[:, 600:].astype(int)).max() <= 2
    for profile in (SRGB, b"not a profile"):
        kept = deep(with_chunk(imagecodecs.png_encode(DEEP), b"iCCP", b"p\0\0" + zlib.compress(profile)))
        np.testing.assert_array_equal(kept, DEEP)


def test_the_profile_of_a_jpeg_2000_file_is_followed() -> None:
    data = jpeg2000(np.full((8, 8, 3), 32768, np.uint16), codecformat="jp2")
    at = data.index(b"colr") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    profile = _linear(SRGB)
    box = struct.pack(">I", 8 + 3 + len(profile)) + b"colr\x02\0\0" + profile
    header = data.index(b"jp2h") - 4
    size = int.from_bytes(data[header : header + 4], "big") + len(box) - length
    changed = data[:header] + struct.pack(">I", size) + data[header + 4 : at] + box + data[at + length :]
    expected = 255 * (1.055 * 0.5 ** (1 / 2.4) - 0.055)
    assert np.abs(decode(changed).astype(int) - expected).max() <= 2
    assert np.abs(deep(changed) - expected * 257).max() < 100


def pages(*pictures: tuple[NDArray[Any], int]) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for pixels, kind in pictures:
            writer.write(pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", subfiletype=kind)
    return buffer.getvalue()


def test_of_a_tiff_of_pages_it_is_the_first_full_image() -> None:
    """1: reduced, 2: a page of several, 4: a mask (TIFF 6.0, NewSubfileType)."""
    full, second = (DEEP >> 8).astype(np.uint8), np.zeros((5, 6, 3), np.uint8)
    small = full[::4, ::4].copy()
    for data in (
        pages((full, 0), (second, 0)), pages((full, 2), (second, 2)), pages((full, 0), (small, 1)),
        pages((small, 1), (full, 0), (second, 0)), pages((small, 1), (small[..., 0] > 9, 4), (small, 1), (full, 2)),
    ):  # fmt: skip
        np.testing.assert_array_equal(decode(data), full)
        assert (probe(data).width, probe(data).height) == (53, 37)
    np.testing.assert_array_equal(decode(pages((small, 1))), small)
    np.testing.assert_array_equal(decode(pages((small, 1), (small[:2], 1))), small)
    np.testing.assert_array_equal(deep(pages((small, 1), (DEEP, 0))), DEEP)


def test_pages_that_point_at_each_other_end() -> None:
    small = np.zeros((5, 6, 3), np.uint8)
    data = bytearray(pages((small, 1), (small, 1)))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        first, second = (page.offset for page in file.pages)
    end = second + 2 + 12 * int.from_bytes(data[second : second + 2], "little")
    data[end : end + 4] = struct.pack("<I", first)
    np.testing.assert_array_equal(decode(bytes(data)), small)


def test_a_page_that_is_too_large_is_refused_by_its_header() -> None:
    small, full = np.zeros((5, 6, 3), np.uint8), np.zeros((50, 60, 3), np.uint8)
    with pytest.raises(ImageError, match="60 x 50 pixels are more"):
        decode(pages((small, 1), (full, 0)), max_pixels=2000)


@pytest.mark.parametrize("data", [
    imagecodecs.png_encode(DEEP), tiff(DEEP), tiff(DEEP, compression="zlib"), jpeg2000(DEEP, codecformat="jp2"),
    tiff(np.moveaxis(DEEP, -1, 0).copy(), planarconfig="separate"),
], ids=["png", "tiff", "deflate", "jp2", "planes"])  # fmt: skip
def test_damaged_and_too_large_deep_images_are_refused_with_the_same_words(data: bytes) -> None:
    def refusal(broken: bytes, max_pixels: int = 10_000) -> ImageError:
        with pytest.raises(ImageError) as caught:
            decode(broken, keep_16_bit=True, max_pixels=max_pixels)
        return caught.value

    assert refusal(data, 53 * 37 - 1).error == "TooManyPixels"
    for part in (0.3, 0.6, 0.9):
        cut = data[: int(len(data) * part)]
        assert str(refusal(cut)) == str(refusal(bytes(cut)))


def test_a_codestream_that_contradicts_its_file_is_refused() -> None:
    data = jpeg2000(DEEP, codecformat="jp2")
    at = data.index(b"\xff\x4f\xff\x51")
    lying = data[: at + 8] + struct.pack(">I", 50_000) + data[at + 12 :]
    with pytest.raises(ImageError) as caught:
        decode(lying, keep_16_bit=True)
    assert caught.value.error == "LyingHeader"


def test_cmyk_of_16_bits_is_shown_at_8() -> None:
    cmyk = np.zeros((4, 4, 4), np.uint16)
    cmyk[..., 0] = 65535
    for data in (
        tiff(cmyk, photometric="separated"),
        tiff(np.moveaxis(cmyk, -1, 0).copy(), photometric="separated", planarconfig="separate"),
    ):
        rgb = decode(data, keep_16_bit=True)
        assert rgb.dtype == np.uint8
        shown = np.asarray(Image.new("CMYK", (4, 4), (255, 0, 0, 0)).convert("RGB"))
        assert np.abs(rgb.astype(int) - shown).max() <= 1
