"""Pictures of every kind that a disk holds are decoded as a viewer shows them, or refused with a reason."""

import contextlib
import io
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import imagecodecs
import numpy as np
import pytest
import samples
from PIL import Image, ImageCms, ImageOps
from samples import saved
from whole_images import png, with_chunk

from condgen.errors import ImageError
from pipelines.images.decoding import decode, probe
from pipelines.images.formats import EXTENSIONS, FORMATS
from pipelines.images.metadata import read_metadata

RED = (200, 30, 40)


def gradient(width: int = 48, height: int = 32) -> Image.Image:
    """A smooth picture without symmetry."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray((np.stack([x, y, 0.3 + 0.4 * x * y], -1) * 255).astype(np.uint8))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(samples.noise(0, width, height))


def refusal(data: bytes, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    assert caught.value.stage == "decode"
    return caught.value


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "GIF", "WEBP", "JPEG2000", "JPEG", "AVIF"])
def test_each_format_is_decoded_and_probed(kind: str) -> None:
    data = saved(gradient(), kind, **({"lossless": True} if kind == "WEBP" else {}))
    info = probe(data)
    assert (info.width, info.height, info.format) == (48, 32, kind)
    rgb = decode(data)
    assert rgb.shape == (32, 48, 3)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert np.abs(rgb.astype(int) - np.asarray(gradient()).astype(int)).mean() < 12
    assert FORMATS[kind] in EXTENSIONS


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_to_pixels_and_sizes(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(gradient(), kind, exif=exif, **({"quality": 100} if kind != "TIFF" else {}))
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.array_equal(decode(data), shown)
    assert (probe(data).height, probe(data).width) == shown.shape[:2]
    assert np.array_equal(shown.shape[:2], (48, 32) if orientation >= 5 else (32, 48))


def raw_profile(block: bytes, name: str, kind: bytes) -> bytes:
    """A text chunk as ImageMagick (exif, APP1) and ExifTool (zTXt) write it."""
    digits = block.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = f"\n{name.lower()}\n{len(block):8}\n{lines}\n".encode()
    keyword = f"Raw profile type {name}".encode() + b"\0"
    body = {
        b"tEXt": keyword + text, b"zTXt": keyword + b"\0" + zlib.compress(text),
        b"iTXt": keyword + b"\1\0\0\0" + zlib.compress(text),
    }[kind]  # fmt: skip
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def exif_chunk(block: bytes) -> bytes:
    return struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("way", ["eXIf", "exif tEXt", "exif zTXt", "APP1 zTXt", "exif iTXt"])
def test_the_orientation_of_a_png_is_found_wherever_it_is_written(
    way: str, place: str, orientation: int, deep: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description that takes more than one line of digits in the text chunk"
    block = exif.tobytes()
    bare = block.removeprefix(b"Exif\0\0")
    chunk = exif_chunk(bare) if way == "eXIf" else raw_profile(block, way.split()[0], way.split()[1].encode())
    pixels = np.asarray(gradient())
    plain = bytes(imagecodecs.png_encode(pixels.astype(np.uint16) * 257)) if deep else saved(gradient(), "PNG")
    data = plain[:33] + chunk + plain[33:] if place == "before" else plain[:-12] + chunk + plain[-12:]
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(saved(gradient(), "TIFF", exif=exif)))))
    upright = decode(saved(gradient(), "PNG", exif=exif))
    assert np.array_equal(decode(data), upright)
    assert np.array_equal(decode(data, keep_16_bit=True), upright.astype(np.uint16) * 257 if deep else upright)
    assert (probe(data).height, probe(data).width) == upright.shape[:2] == shown.shape[:2]
    assert read_metadata(data).exif == read_metadata(saved(gradient(), "PNG", exif=exif)).exif


@pytest.mark.parametrize("text", [
    b"", b"\nexif\n", b"\nexif\n   10\nzz", b"\nexif\n   10\n0", b"\nexif\n   4\n45786966", b"exif",
    b"\nxmp\n  20\n687474703a2f2f6e732e61646f62652e636f6d", b"\nexif\n  9\n49492a00ffffffff00",
])  # fmt: skip
def test_a_text_that_holds_no_sound_exif_costs_nothing(text: bytes) -> None:
    body = b"Raw profile type exif\0" + text
    chunk = struct.pack(">I", len(body)) + b"tEXt" + body + struct.pack(">I", zlib.crc32(b"tEXt" + body))
    plain = saved(gradient(), "PNG")
    assert np.array_equal(decode(plain[:33] + chunk + plain[33:]), np.asarray(gradient()))


@pytest.mark.parametrize("size", [56, 108, 124])
@pytest.mark.parametrize("top_down", [False, True])
def test_a_bmp_whose_alpha_is_all_zero_is_opaque_and_any_other_alpha_is_put_on_white(size: int, top_down: bool) -> None:
    def bmp(alpha: Any) -> bytes:
        pixels = np.dstack([rgb[..., ::-1], np.broadcast_to(alpha, rgb.shape[:2]).astype(np.uint8)])
        body = (pixels if top_down else pixels[::-1]).tobytes()
        height = -rgb.shape[0] if top_down else rgb.shape[0]
        header = struct.pack("<IiiHHIIiiII", size, rgb.shape[1], height, 1, 32, 3, len(body), 0, 0, 0, 0)
        header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        header = header.ljust(size, b"\0")
        return struct.pack("<2sIHHI", b"BM", 14 + size + len(body), 0, 0, 14 + size) + header + body

    rgb = np.asarray(gradient())
    one = np.zeros(rgb.shape[:2])
    one[3, 4] = 255
    expected = np.where(one[..., None] > 0, rgb, 255)
    assert np.array_equal(decode(bmp(0)), rgb)
    assert np.array_equal(decode(bmp(255)), rgb)
    assert np.array_equal(decode(bmp(one)), expected)
    half = decode(bmp(128)).astype(float)
    assert np.abs(half - (rgb * (128 / 255) + 255 * (127 / 255))).max() <= 1


def test_a_damaged_exif_block_does_not_cost_the_image() -> None:
    data = saved(gradient(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert decode(data).shape == (32, 48, 3)


def test_a_cmyk_jpeg_with_adobes_inverted_values_and_a_cmyk_tiff_show_the_same_colors() -> None:
    cmyk = Image.new("RGB", (16, 16), RED).convert("CMYK")
    jpeg = saved(cmyk, "JPEG", quality=100)
    assert b"Adobe" in jpeg
    for data in (jpeg, saved(cmyk, "TIFF")):
        assert probe(data).mode == "CMYK"
        assert np.abs(decode(data).astype(int) - RED).max() <= 3


@pytest.mark.parametrize("value", [0, 257, 32768, 65535])
def test_16_bit_grey_is_scaled_not_clipped(value: int) -> None:
    image = Image.fromarray(np.full((4, 4), value, np.uint16))
    expected = round(value / 257)
    for data in (saved(image, "PNG"), saved(image, "TIFF"), saved(image, "PPM")):
        assert decode(data).tolist() == np.full((4, 4, 3), expected).tolist()


@pytest.mark.parametrize(("order", "photometric"), [("<", 0), ("<", 1), (">", 1)])
def test_a_16_bit_tiff_is_read_by_its_tags(order: str, photometric: int) -> None:
    """In either byte order; 0 as white inverts it (Pillow leaves it as it is)."""
    values = np.array([[0, 65535], [32768, 1000]], np.uint16)
    tags = [(256, 2), (257, 2), (258, 16), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 2), (279, 8)]
    directory = struct.pack(f"{order}H", len(tags))
    for tag, value in tags:
        directory += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 16)
    data = head + values.astype(f"{order}u2").tobytes() + directory + bytes(4)
    shown = 65535 - values.astype(int) if photometric == 0 else values.astype(int)
    assert np.array_equal(decode(data)[..., 0], (shown * 255 + 32767) // 65535)


def test_16_bit_color_and_alpha_are_scaled() -> None:
    pixel = struct.pack(">HHH", 51400, 7710, 10280)
    assert np.abs(decode(png(2, 1, 16, 2, zlib.compress(b"\0" + pixel * 2))).astype(int) - RED).max() <= 1
    clear = struct.pack(">HHHH", 0, 0, 0, 0)
    assert decode(png(1, 1, 16, 6, zlib.compress(b"\0" + clear))).tolist() == [[[255, 255, 255]]]


def test_a_palette_is_looked_up_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, 10, 20, 30])
    image.putdata([0, 1])
    assert decode(saved(image, "PNG")).tolist() == [[list(RED), [10, 20, 30]]]
    assert decode(saved(image, "PNG", transparency=1)).tolist() == [[list(RED), [255, 255, 255]]]
    assert decode(saved(image, "PNG", transparency=b"\xff\x80")).tolist()[0][1] == pytest.approx([132, 137, 142], abs=1)
    assert decode(saved(image, "GIF", transparency=1)).tolist() == [[list(RED), [255, 255, 255]]]


@pytest.mark.parametrize(("mode", "pixel", "shown"), [
    ("L", 77, (77, 77, 77)),
    ("1", 255, (255, 255, 255)),
    ("LA", (0, 0), (255, 255, 255)),
    ("LA", (0, 128), (127, 127, 127)),
    ("RGBA", (*RED, 255), RED),
    ("RGBA", (*RED, 0), (255, 255, 255)),
    ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
])  # fmt: skip
def test_grey_and_transparent_images_are_put_on_white(mode: str, pixel: Any, shown: tuple[int, ...]) -> None:
    assert decode(saved(Image.new(mode, (1, 1), pixel), "PNG"))[0, 0].tolist() == pytest.approx(shown, abs=1)


def test_a_color_key_of_an_rgb_png_is_transparent() -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), (0, 0, 0))
    assert decode(saved(image, "PNG", transparency=(0, 0, 0))).tolist() == [[list(RED), [255, 255, 255]]]


def test_an_embedded_profile_is_followed_and_a_broken_one_ignored() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = np.asarray(gradient())
    assert np.array_equal(decode(saved(gradient(), "PNG", icc_profile=srgb)), plain)
    assert np.array_equal(decode(saved(gradient(), "PNG", icc_profile=b"not a profile")), plain)
    swapped = decode(saved(gradient(), "PNG", icc_profile=_with_swapped_red_and_green(srgb)))
    assert np.abs(swapped[..., 0].astype(int) - plain[..., 1]).max() <= 3
    assert np.abs(swapped[..., 0].astype(int) - plain[..., 0]).max() > 100
    rgba = gradient().convert("RGBA")
    shown = decode(saved(rgba, "PNG", icc_profile=_with_swapped_red_and_green(srgb)))
    assert np.array_equal(shown, swapped)


def _with_swapped_red_and_green(profile: bytes) -> bytes:
    """A profile whose red primary is sRGB's green one, and the other way round."""
    return profile.replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ").replace(b"tmp_", b"gXYZ")


def test_one_pixel() -> None:
    for kind in ("PNG", "JPEG", "GIF"):
        assert decode(saved(Image.new("RGB", (1, 1), RED), kind), min_size_px=64).shape == (1, 1, 3)


def test_12000_by_9000_pixels_are_allowed_and_scaled_on_the_way() -> None:
    data = saved(Image.new("L", (12000, 9000), 99), "JPEG")
    assert (probe(data).width, probe(data).height) == (12000, 9000)
    assert decode(data, min_size_px=256).shape == (1125, 1500, 3)


@pytest.mark.parametrize(("width", "height", "min_size_px", "shape"), [
    (640, 480, 60, (60, 80, 3)), (640, 480, 64, (120, 160, 3)), (640, 480, 480, (480, 640, 3)),
    (640, 480, 481, (480, 640, 3)), (100, 1000, 50, (500, 50, 3)), (9, 9, 1, (2, 2, 3)),
])  # fmt: skip
def test_dct_scaling_keeps_the_short_side(width: int, height: int, min_size_px: int, shape: tuple[int, ...]) -> None:
    scaled = decode(saved(noise(width, height), "JPEG"), min_size_px=min_size_px)
    assert scaled.shape == shape
    assert min(scaled.shape[:2]) >= min(min_size_px, width, height)


def test_dct_scaling_turns_the_image_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(gradient(640, 480), "JPEG", exif=exif)
    assert decode(data, min_size_px=60).shape == (80, 60, 3)


@pytest.mark.parametrize("min_size_px", [None, 16])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_jpeg_is_an_error_never_a_half_grey_image(
    min_size_px: int | None, progressive: bool, part: float
) -> None:
    data = saved(noise(200, 200), "JPEG", progressive=progressive)
    cut = data[: int(len(data) * part)]
    refusal(cut, min_size_px=min_size_px)
    zeros = refusal(cut + bytes(len(data) - len(cut)), min_size_px=min_size_px)
    if part > 0.1:
        assert zeros.error == "CutImage"


def test_a_jpeg_with_a_preview_and_something_behind_it_is_whole() -> None:
    exif = Image.Exif()
    exif[0x9286] = saved(noise(16, 16), "JPEG")
    data = saved(noise(64, 64), "JPEG", exif=exif)
    behind = b"\xff\xda and a film behind it"
    assert np.array_equal(decode(data + behind), decode(data))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF"])
def test_other_cut_images_are_errors(kind: str) -> None:
    data = saved(noise(100, 100), kind)
    refusal(data[: len(data) // 2])


@pytest.mark.parametrize(("data", "error"), [
    (b"", "EmptyFile"),
    (b"x", "NotAnImage"),
    (b"These are notes about my photographs.\n" * 20, "NotAnImage"),
    (b"<html><body>404</body></html>", "NotAnImage"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "NotAnImage"),
])  # fmt: skip
def test_what_is_no_image_is_named_so(data: bytes, error: str) -> None:
    assert refusal(data).error == error
    with pytest.raises(ImageError):
        probe(data)


@pytest.mark.parametrize("head", [
    b"\xff\xd8\xff\xe0\0\x10JFIF", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a", b"II*\0\x08\0\0\0", b"BM",
    b"P6 ", b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0\x1cftypavif",
])  # fmt: skip
def test_a_fake_header_and_garbage_are_an_error(head: bytes) -> None:
    refusal(head + bytes(range(256)) * 4)
    refusal(head)


def test_a_bomb_is_refused_by_its_header_before_it_is_decoded() -> None:
    bomb = png(60_000, 60_000, 8, 0, zlib.compress(b""))
    assert refusal(bomb).error == "TooManyPixels"
    with pytest.raises(ImageError, match="60000 x 60000"):
        probe(bomb)
    data = saved(gradient(), "PNG")
    assert refusal(data, max_pixels=48 * 32 - 1).error == "TooManyPixels"
    assert decode(data, max_pixels=48 * 32).shape == (32, 48, 3)


@pytest.mark.slow
def test_a_text_chunk_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    body = b"Comment\0\0" + zlib.compress(bytes(200 << 20))
    plain = saved(gradient(), "PNG")
    assert np.array_equal(decode(with_chunk(plain, b"zTXt", body)), decode(plain))


def test_samples_are_refused_where_their_white_is_not_known() -> None:
    assert refusal(saved(Image.new("F", (2, 2), 50.0), "TIFF")).error == "UnknownRange"
    assert refusal(saved(Image.new("I", (2, 2), 70000), "TIFF")).error == "UnknownRange"


def test_messages_are_the_same_on_every_run() -> None:
    broken = saved(noise(100, 100), "PNG")[:60]
    first, second = str(refusal(broken)), str(refusal(bytes(broken)))
    assert first == second
    for data in (broken, b"II*\0\x08\0\0\0", b"BM" + bytes(40), b"GIF89a" + bytes(3)):
        assert not re.search(r"0x|BytesIO|/", str(refusal(data)))


def test_one_byte_changed_anywhere_gives_a_image_or_an_image_error() -> None:
    random = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        data = saved(gradient(), kind)
        for _ in range(60):
            damaged = bytearray(data)
            damaged[int(random.integers(len(data)))] = int(random.integers(256))
            with contextlib.suppress(ImageError):  # anything else fails the test
                assert decode(bytes(damaged), max_pixels=1_000_000).ndim == 3


def test_threads_decode_the_same() -> None:
    data = [saved(noise(60 + i, 50), "JPEG") for i in range(20)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(decode, data * 3))
    assert all(np.array_equal(a, decode(b)) for a, b in zip(together, data * 3, strict=True))
