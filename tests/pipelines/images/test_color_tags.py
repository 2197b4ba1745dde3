"""Colors are shown as code points, EXIF, TIFF and BMP tell that they are meant.

The curves of ITU-T H.273 stand here as the standard has them, from light to signal, and are inverted by interpolation.
"""

import io
import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from color_samples import (
    ADOBE_PROFILE,
    DEEP,
    GREY,
    RGB,
    Floats,
    chunk,
    cicp,
    off,
    png,
    power,
    saved,
    shown,
    srgb_light,
    srgb_signal,
)
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from pipelines.images.color_spaces import PRIMARIES, ColorSpace, Power, space_to_srgb
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode
from pipelines.images.icc import SRGB_PROFILE
from pipelines.images.metadata import read_metadata

# Code points of ITU-T H.273


def bt709(light: Floats) -> Floats:
    return np.where(light < 0.018053968510807, 4.5 * light, 1.099296826809442 * light**0.45 - 0.099296826809442)


def smpte240(light: Floats) -> Floats:
    return np.where(light < 0.022821585529445, 4 * light, 1.111572195921731 * light**0.45 - 0.111572195921731)


SIGNALS: dict[int, Callable[[Floats], Floats]] = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), bt709),
    4: lambda light: light ** (1 / 2.2),
    5: lambda light: light ** (1 / 2.8),
    7: smpte240,
    8: lambda light: light,
    9: lambda light: np.where(light < 0.01, 0, 1 + np.log10(np.maximum(light, 0.01)) / 2),
    10: lambda light: np.where(light < 10**-2.5, 0, 1 + np.log10(np.maximum(light, 10**-2.5)) / 2.5),
    13: srgb_signal,
    17: lambda light: (48 * light / 52.37) ** (1 / 2.6),
}


@pytest.mark.parametrize("transfer", SIGNALS)
def test_every_transfer_function_is_that_of_the_standard(transfer: int) -> None:
    light = np.concatenate([[0], np.logspace(-7, 0, 200_000)])
    signal = SIGNALS[transfer](light)

    def to_light(samples: Floats) -> Floats:
        return np.interp(samples, signal, light)

    ramp = np.repeat(np.linspace(0.005, 1, 4096)[None, :, None], 3, -1)
    deep = np.rint(ramp * 65535).astype(np.uint16)
    assert off(png(GREY[1:], cicp(1, transfer)), shown(GREY[1:], "srgb", to_light)) <= 0.55
    assert off(png(deep, cicp(1, transfer)), shown(deep, "srgb", to_light), deep=True) <= 0.02
    assert off(png(RGB[RGB.min(-1) > 0][None], cicp(9, transfer)),
               shown(RGB[RGB.min(-1) > 0][None], "bt2020", to_light)) <= 0.7  # fmt: skip


@pytest.mark.parametrize("primaries", PRIMARIES)
def test_every_set_of_primaries_is_what_littlecms_makes_of_it(primaries: int) -> None:
    """LittleCMS computes in full here, without tables of its own."""
    red_x, red_y, green_x, green_y, blue_x, blue_y, *white = PRIMARIES[primaries]
    profile = imagecodecs.cms_profile(
        "rgb", whitepoint=[*white, 1.0], gamma=2.2,
        primaries=[red_x, red_y, 1.0, green_x, green_y, 1.0, blue_x, blue_y, 1.0],
    )  # fmt: skip
    theirs = imagecodecs.cms_transform(
        DEEP, profile, SRGB_PROFILE, colorspace="rgb", outcolorspace="rgb", intent=1,
        flags=imagecodecs.CMS.FLAGS.NOOPTIMIZE,
    )  # fmt: skip
    ours = space_to_srgb(DEEP, 65535, ColorSpace(PRIMARIES[primaries], (Power(2.2),) * 3))
    assert np.abs(ours.astype(int) - theirs).mean() < 25
    assert np.abs(ours.astype(int) - theirs).max() < 2.5 * 257
    assert off(png(GREY, cicp(primaries, 13)), GREY.astype(float)) <= 0.51  # white is white


@pytest.mark.parametrize(("primaries", "name"), [(12, "p3"), (9, "bt2020"), (1, "srgb"), (2, "srgb")])
def test_cicp_primaries_have_the_published_matrices(primaries: int, name: str) -> None:
    assert off(png(RGB, cicp(primaries, 13)), shown(RGB, name, srgb_light)) <= 0.6
    assert off(png(DEEP, cicp(primaries, 13)), shown(DEEP, name, srgb_light), deep=True) <= 0.1


def test_narrow_range_is_stretched() -> None:
    """16 is black and 235 is white at 8 bits; 16 and 235 times 256 at 16."""
    expected = np.clip((GREY - 16.0) / 219, 0, 1) * 255
    assert off(png(GREY, cicp(1, 13, full=0)), expected) <= 0.51
    deep = (GREY.astype(np.uint16) << 8)[..., None].repeat(3, -1)
    assert off(png(deep, cicp(1, 13, full=0)), expected[..., None].repeat(3, -1) * 257, deep=True) <= 0.02


def pq_signal(nits: Floats) -> Floats:
    """ITU-R BT.2100, table 4."""
    root = (np.asarray(nits) / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375


def test_pq_shows_diffuse_white_as_white_and_brighter_light_unclipped() -> None:
    """Diffuse white is 203 cd/m² (ITU-R BT.2408)."""
    nits = np.linspace(0.5, 203, 300)
    ordinary = np.rint(pq_signal(nits) * 65535).astype(np.uint16)[None, :, None].repeat(3, -1)
    expected = srgb_signal(nits / 203)[None, :, None].repeat(3, -1) * 65535
    assert off(png(ordinary, cicp(9, 16)), expected, deep=True) <= 0.1
    bright = np.rint(pq_signal(np.linspace(1, 4000, 300)) * 65535).astype(np.uint16)[None, :, None].repeat(3, -1)
    rgb = decode(png(bright, cicp(9, 16)), keep_16_bit=True).astype(int)
    assert (np.diff(rgb[0, :, 0]) > 0).all()
    assert rgb.max() == 65535
    assert np.ptp(rgb, axis=-1).max() <= 1  # grey stays grey


def test_hlg_shows_no_two_levels_alike_and_its_diffuse_white_alike_in_all_images() -> None:
    """Diffuse white is at 75 % of HLG's signal (ITU-R BT.2408)."""
    ramp = np.linspace(0, 65535, 300).round().astype(np.uint16)[None, :, None].repeat(3, -1)
    rgb = decode(png(ramp, cicp(9, 18)), keep_16_bit=True).astype(int)
    assert (np.diff(rgb[0, :, 0]) > 0).all()
    dim = np.rint(np.linspace(0.1, 0.75, 100) * 65535).astype(np.uint16)[None, :, None].repeat(3, -1)
    scene = np.where(dim / 65535 <= 0.5, (dim / 65535) ** 2 / 3,
                     (np.exp((dim / 65535 - 0.55991073) / 0.17883277) + 0.28466892) / 12)  # fmt: skip
    assert off(png(dim, cicp(9, 18)), srgb_signal(1000 * scene**1.2 / 203) * 65535, deep=True) <= 0.3


# AVIF


@pytest.mark.parametrize(("primaries", "transfer", "name", "light"), [
    (12, 13, "p3", srgb_light), (9, 13, "bt2020", srgb_light), (1, 8, "srgb", power(1)), (12, 4, "p3", power(2.2)),
])  # fmt: skip
@pytest.mark.parametrize("bits", [8, 10])
def test_the_code_points_of_an_avif_are_followed(
    primaries: int, transfer: int, name: str, light: Callable[[Floats], Floats], bits: int
) -> None:
    pixels = RGB if bits == 8 else (RGB.astype(np.uint16) << 2)
    options = {"level": 100, "matrix": 0, "pixelformat": "444", "bitspersample": bits}
    stored = decode(imagecodecs.avif_encode(pixels, primaries=1, transfer=13, **options))
    data = imagecodecs.avif_encode(pixels, primaries=primaries, transfer=transfer, **options)
    assert np.abs(stored.astype(int) - RGB).max() <= 2
    assert off(data, shown(stored, name, light)) <= 0.7


def test_an_avif_that_tells_nothing_or_srgb_is_left_and_a_profile_comes_first() -> None:
    options = {"quality": 100, "subsampling": "4:4:4"}
    plain = decode(saved(RGB, "AVIF", **options))
    data = saved(RGB, "AVIF", **options)
    at = data.index(b"colrnclx")
    for code in (2, 0, 3, 250):
        np.testing.assert_array_equal(decode(data[: at + 8] + bytes([0, code, 0, code]) + data[at + 12 :]), plain)
    with_profile = saved(RGB, "AVIF", icc_profile=ADOBE_PROFILE, **options)
    at = with_profile.index(b"colrnclx")
    with_both = with_profile[: at + 8] + b"\0\x09\0\x08" + with_profile[at + 12 :]
    expected = shown(plain, "adobe", power(563 / 256))
    assert off(with_profile, expected) <= 3
    assert off(with_both, expected) <= 3


# EXIF


def adobe_exif(
    code: str = "R03", space: int = 65535, *, chromaticities: bool = False, gamma: float | None = None
) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ColorSpace] = space
    if gamma is not None:
        details[ExifTags.Base.Gamma] = TiffImagePlugin.IFDRational(round(gamma * 1000), 1000)
    if code:
        details[40965] = {1: code}
    if chromaticities:
        ratio = TiffImagePlugin.IFDRational
        exif[318] = (ratio(3127, 10000), ratio(3290, 10000))
        exif[319] = tuple(ratio(value, 100) for value in (68, 32, 26.5, 69, 15, 6))
    return exif


@pytest.mark.parametrize(("kind", "code", "space"), [
    ("TIFF", "", 2),
    *((kind, *told) for kind in ("JPEG", "PNG", "WEBP", "AVIF") for told in (("R03", 65535), ("", 2), ("R03", 2))),
])  # fmt: skip
def test_adobe_rgb_by_exif_alone_is_converted_and_the_output_says_srgb(kind: str, code: str, space: int) -> None:
    options: dict[str, Any] = {
        "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100},
    }.get(kind, {})  # fmt: skip
    stored = decode(saved(RGB, kind, **options))
    data = saved(RGB, kind, exif=adobe_exif(code, space).tobytes(), **options)
    if kind == "AVIF":  # whose code points would come first
        at = data.index(b"colrnclx")
        data = data[: at + 8] + b"\0\2\0\2" + data[at + 12 :]
    if kind == "PNG":
        assert b"eXIf" in data
    assert off(data, shown(stored, "adobe", power(563 / 256))) <= 0.7
    rgb = decode(data)
    for target in ("jpeg", "png", "tiff", "webp"):
        made = encode(rgb, target, quality=100, metadata=read_metadata(data))
        details = Image.open(io.BytesIO(made)).getexif().get_ifd(ExifTags.IFD.Exif)
        assert details[ExifTags.Base.ColorSpace] == 1
        assert 40965 not in details
        if target in ("png", "tiff"):
            np.testing.assert_array_equal(decode(made), rgb)


def test_adobe_rgb_of_a_grey_image_has_its_gamma() -> None:
    for image in (Image.fromarray(GREY), Image.fromarray(GREY).convert("RGB")):
        data = saved(image, "PNG", exif=adobe_exif())
        assert off(data, shown(GREY, "srgb", power(563 / 256))) <= 0.51
    cmyk = Image.fromarray(RGB).convert("CMYK")
    plain, told = saved(cmyk, "JPEG"), saved(cmyk, "JPEG", exif=adobe_exif())
    np.testing.assert_array_equal(decode(told), decode(plain))


@pytest.mark.parametrize(("code", "space"), [("R98", 1), ("R03", 1), ("R98", 65535), ("", 65535), ("THM", 65535)])
def test_other_exif_is_srgb(code: str, space: int) -> None:
    np.testing.assert_array_equal(decode(saved(RGB, "PNG", exif=adobe_exif(code, space))), RGB)
    jpeg = saved(RGB, "JPEG", exif=adobe_exif(code, space))
    np.testing.assert_array_equal(decode(jpeg), decode(saved(RGB, "JPEG")))


def test_chromaticities_and_gamma_of_exif_are_followed_where_it_says_uncalibrated() -> None:
    for gamma in (None, 1.8):
        data = saved(RGB, "PNG", exif=adobe_exif("", 65535, chromaticities=True, gamma=gamma))
        assert off(data, shown(RGB, "p3", power(gamma or 2.2))) <= 0.7
    np.testing.assert_array_equal(decode(saved(RGB, "PNG", exif=adobe_exif("", 1, chromaticities=True))), RGB)


def test_what_the_format_itself_tells_comes_before_exif() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = adobe_exif()
    np.testing.assert_array_equal(decode(saved(RGB, "PNG", exif=exif, icc_profile=srgb)), RGB)
    np.testing.assert_array_equal(decode(png(RGB, chunk(b"sRGB", b"\0"), exif=exif)), RGB)
    jpeg = saved(RGB, "JPEG", exif=exif, icc_profile=srgb)
    np.testing.assert_array_equal(decode(jpeg), decode(saved(RGB, "JPEG")))


# TIFF and BMP


def tiff(pixels: NDArray[Any], *tags: tuple[int, str, int, tuple[int, ...]]) -> bytes:
    buffer = io.BytesIO()
    kinds = {"H": 3, "R": 5}
    extra = [(tag, kinds[kind], count, values, True) for tag, kind, count, values in tags]
    tifffile.imwrite(buffer, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", extratags=extra)
    return buffer.getvalue()


WHITE_D65 = (318, "R", 2, (3127, 10000, 3290, 10000))
P3_PRIMARIES = (319, "R", 6, (680, 1000, 320, 1000, 265, 1000, 690, 1000, 150, 1000, 60, 1000))


def test_primaries_and_transfer_function_of_a_tiff_are_followed() -> None:
    assert off(tiff(RGB, WHITE_D65, P3_PRIMARIES), shown(RGB, "p3", power(2.2))) <= 0.7
    assert off(tiff(DEEP, WHITE_D65, P3_PRIMARIES), shown(DEEP, "p3", power(2.2)), deep=True) <= 0.3
    table = np.rint((np.arange(256) / 255) ** 1.5 * 65535).astype(int)
    one, three = (301, "H", 256, tuple(table.tolist())), (301, "H", 768, tuple(np.tile(table, 3).tolist()))
    for curve in (one, three):
        assert off(tiff(RGB, curve), shown(RGB, "srgb", power(1.5))) <= 0.6
        assert off(tiff(RGB, WHITE_D65, P3_PRIMARIES, curve), shown(RGB, "p3", power(1.5))) <= 0.7
    assert off(tiff(GREY, one), shown(GREY, "srgb", power(1.5))) <= 0.6
    deep = np.rint((np.arange(65536) / 65535) ** 1.5 * 65535).astype(int)
    assert off(tiff(DEEP, (301, "H", 65536, tuple(deep.tolist()))), shown(DEEP, "srgb", power(1.5)), deep=True) <= 0.7


def test_a_tiff_with_the_chromaticities_of_srgb_or_damaged_ones_is_left_as_it_is() -> None:
    srgb = (319, "R", 6, (64, 100, 33, 100, 30, 100, 60, 100, 15, 100, 6, 100))
    for tags in ([WHITE_D65, srgb], [WHITE_D65], [(319, "R", 6, (1, 0) * 6)], [(301, "H", 3, (1, 2, 3))]):
        np.testing.assert_array_equal(decode(tiff(RGB, *tags)), RGB)


def bmp(kind: bytes, ends: tuple[float, ...] = (0.0,) * 9, gamma: float = 0.0, profile: bytes = b"") -> bytes:
    """A BMP with a header of version 5."""
    body = b"".join(row[:, ::-1].tobytes() for row in RGB[::-1])
    offset = 14 + 124
    header = struct.pack("<IiiHHIIiiII", 124, 32, 24, 1, 24, 0, len(body), 0, 0, 0, 0) + bytes(16) + kind[::-1]
    header += struct.pack("<9I", *(round(value * 2**30) for value in ends))
    header += struct.pack("<3I", *[round(gamma * 65536)] * 3)
    header += struct.pack("<4I", 4, 124 + len(body) if profile else 0, len(profile), 0)
    size = offset + len(body) + len(profile)
    return struct.pack("<2sIHHI", b"BM", size, 0, 0, offset) + header + body + profile


def test_the_colors_of_a_bmp_are_followed() -> None:
    p3 = (0.68, 0.32, 0.0, 0.265, 0.69, 0.045, 0.15, 0.06, 0.79)
    np.testing.assert_array_equal(decode(bmp(b"sRGB", p3, 1.0)), RGB)
    np.testing.assert_array_equal(decode(bmp(b"Win ")), RGB)
    np.testing.assert_array_equal(decode(bmp(bytes(4))), RGB)
    assert off(bmp(bytes(4), p3, 1.8), shown(RGB, "p3", power(1.8))) <= 0.7
    assert off(bmp(b"MBED", profile=ADOBE_PROFILE), shown(RGB, "adobe", power(563 / 256))) <= 2
    np.testing.assert_array_equal(decode(bmp(b"MBED", profile=b"no profile")), RGB)
