"""Colors are shown as PNGs and profiles tell that they are meant, with transparency and without.

The expectations are formulas of the standards, and matrices as they are published (Adobe RGB (1998), CSS Color 4).
"""

import io
import struct

import numpy as np
import pytest
import tifffile
from color_samples import (
    ADOBE_PROFILE,
    ALPHA,
    DEEP,
    GREY,
    LINEAR_PROFILES,
    RGB,
    Floats,
    chromaticities_chunk,
    chunk,
    cicp,
    gamma_chunk,
    off,
    png,
    power,
    profile_chunk,
    profile_of,
    saved,
    shown,
    srgb_light,
)
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pipelines.images.decoding import decode

# PNG: gAMA and cHRM


@pytest.mark.parametrize("value", [100_000, 55_556, 40_000, 30_000, 60_000])
def test_gamma_alone_is_followed_in_every_kind_of_png(value: int) -> None:
    light = power(100_000 / value)
    told = gamma_chunk(value)
    assert off(png(RGB, told), shown(RGB, "srgb", light)) <= 0.51
    assert off(png(GREY, told), shown(GREY, "srgb", light)) <= 0.51
    assert off(png(DEEP, told), shown(DEEP, "srgb", light), deep=True) <= 0.01
    assert off(png(DEEP[..., 0].copy(), told), shown(DEEP[..., 0], "srgb", light), deep=True) <= 0.01
    palette = Image.fromarray(RGB).quantize(64)
    assert off(png(palette, told), shown(np.asarray(palette.convert("RGB")), "srgb", light)) <= 0.51
    bits = Image.fromarray(GREY > 99)
    assert off(png(bits, told), shown(np.asarray(bits.convert("L")), "srgb", light)) <= 0.51


@pytest.mark.parametrize(("name", "value"), [
    ("adobe", 45_455), ("prophoto", 55_556), ("p3", 45_455), ("bt2020", 100_000),
])  # fmt: skip
def test_gamma_and_chromaticities_are_followed_at_8_bits_and_16(name: str, value: int) -> None:
    told = gamma_chunk(value), chromaticities_chunk(name)
    for chunks in (told, told[::-1]):
        assert off(png(RGB, *chunks), shown(RGB, name, power(100_000 / value))) <= 0.6
        assert off(png(DEEP, *chunks), shown(DEEP, name, power(100_000 / value)), deep=True) <= 0.3
    assert off(png(GREY, *told), shown(GREY, "srgb", power(100_000 / value))) <= 0.51


def test_chromaticities_alone_come_with_the_curve_of_srgb() -> None:
    assert off(png(RGB, chromaticities_chunk("p3")), shown(RGB, "p3", srgb_light)) <= 0.6


@pytest.mark.parametrize("chunks", [
    [gamma_chunk(45_455)], [gamma_chunk(45_455), chromaticities_chunk("srgb")], [chromaticities_chunk("srgb")],
    [gamma_chunk(45_000)], [gamma_chunk(0)], [gamma_chunk(2**31)], [chunk(b"gAMA", b"\0" * 4)],
    [chunk(b"cHRM", bytes(32))], [chunk(b"cHRM", b"\xff" * 32)],
    [chunk(b"cHRM", struct.pack(">8I", *(31270, 32900, *(30000, 30000) * 3)))],
    [chunk(b"sRGB", b"\0"), gamma_chunk(100_000)], [gamma_chunk(100_000), chunk(b"sRGB", b"\1")],
    [], [cicp(1, 13)], [cicp(2, 2)], [cicp(1, 13, 1)], [cicp(3, 13)],
    [cicp(1, 13), gamma_chunk(100_000)], [cicp(1, 13), profile_chunk(ADOBE_PROFILE)],
])  # fmt: skip
def test_what_is_srgb_or_tells_nothing_sound_is_left_as_it_is(chunks: list[bytes]) -> None:
    np.testing.assert_array_equal(decode(png(RGB, *chunks)), RGB)
    np.testing.assert_array_equal(decode(png(DEEP, *chunks), keep_16_bit=True), DEEP)


def test_colors_that_are_told_behind_the_pixels_are_not_told() -> None:
    np.testing.assert_array_equal(decode(png(RGB, behind=gamma_chunk(100_000) + cicp(12, 13))), RGB)


def test_of_two_ways_of_telling_the_stronger_one_holds() -> None:
    """The third edition's order: cICP, iCCP, sRGB, then cHRM and gAMA; what can't be followed is passed over."""
    adobe, p3 = shown(RGB, "adobe", power(563 / 256)), shown(RGB, "p3", srgb_light)
    gamma = shown(RGB, "srgb", power(1))
    linear = gamma_chunk(100_000)
    assert off(png(RGB, linear, cicp(12, 13), profile_chunk(ADOBE_PROFILE)), p3) <= 0.6
    assert off(png(RGB, linear, chunk(b"sRGB", b"\0"), profile_chunk(ADOBE_PROFILE)), adobe) <= 2
    assert off(png(RGB, linear, profile_chunk(b"no profile")), gamma) <= 0.51
    assert off(png(RGB, linear, cicp(3, 13)), gamma) <= 0.51
    assert off(png(RGB, linear, cicp(12, 99)), gamma) <= 0.51
    assert off(png(RGB, profile_chunk(ADOBE_PROFILE), cicp(12, 13, 9)), adobe) <= 2


@pytest.mark.parametrize(("name", "gamma"), [("adobe", 563 / 256), ("prophoto", 1.8), ("p3", 2.4), ("srgb", 1.0)])
def test_a_profile_is_followed_at_16_bits_as_its_formula_says_saturated_colors_too(name: str, gamma: float) -> None:
    profile = profile_of(name, gamma)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, DEEP, photometric="rgb", iccprofile=profile)
    for data in (png(DEEP, profile_chunk(profile)), buffer.getvalue()):
        assert off(data, shown(DEEP, name, power(gamma)), deep=True) <= 1
    assert off(png(RGB, icc_profile=profile), shown(RGB, name, power(gamma))) <= 1.5


# Transparency


def on_white(colors: Floats, alpha: NDArray[np.uint8]) -> Floats:
    share = alpha[..., None] / 255
    return np.asarray(colors * share + 255 * (1 - share))


def test_colors_are_converted_before_they_are_put_on_white() -> None:
    rgba = np.dstack([RGB, ALPHA])
    assert off(png(rgba, gamma_chunk(100_000)), on_white(shown(RGB, "srgb", power(1)), ALPHA)) <= 1.1
    assert off(png(rgba, cicp(12, 13)), on_white(shown(RGB, "p3", srgb_light), ALPHA)) <= 1.1
    assert off(png(rgba, profile_chunk(ADOBE_PROFILE)), on_white(shown(RGB, "adobe", power(563 / 256)), ALPHA)) <= 2.1
    deep = np.dstack([DEEP, ALPHA.astype(np.uint16) * 257])
    expected = on_white(shown(DEEP, "srgb", power(1)) / 257, ALPHA) * 257
    assert off(png(deep, gamma_chunk(100_000)), expected, deep=True) <= 0.02


@pytest.mark.parametrize("space", ["GRAY", "RGB"])
def test_a_profile_of_a_grey_image_is_followed_with_and_without_transparency(space: str) -> None:
    profile = LINEAR_PROFILES[space]
    grey = RGB[..., 0].copy()
    light = np.repeat(shown(grey, "srgb", power(1))[..., None], 3, -1)
    assert off(png(grey, icc_profile=profile), light) <= 2
    assert off(png(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(ALPHA)]), icc_profile=profile),
               on_white(light, ALPHA)) <= 2  # fmt: skip
    keyed = light.copy()
    keyed[grey == 77] = 255
    assert off(png(grey, icc_profile=profile, transparency=77), keyed) <= 2
    assert off(saved(grey, "JPEG", quality=100, icc_profile=profile),
               shown(decode(saved(grey, "JPEG", quality=100)), "srgb", power(1))) <= 2  # fmt: skip
    for extra, alpha in ((None, None), ("unassalpha", ALPHA)):
        pixels = grey if alpha is None else np.dstack([grey, alpha])
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, photometric="minisblack", extrasamples=[extra] if extra else None,
                         iccprofile=profile, planarconfig="contig")  # fmt: skip
        assert off(buffer.getvalue(), light if alpha is None else on_white(light, alpha)) <= 2


@pytest.mark.parametrize("space", ["GRAY", "RGB"])
def test_a_profile_of_a_deep_grey_image_is_followed_with_and_without_transparency(space: str) -> None:
    profile, grey = LINEAR_PROFILES[space], DEEP[..., 0].copy()
    light = np.repeat(shown(grey, "srgb", power(1))[..., None], 3, -1)
    assert off(png(grey, profile_chunk(profile)), light, deep=True) <= 2
    deep = np.dstack([grey, ALPHA.astype(np.uint16) * 257])
    assert off(png(deep, profile_chunk(profile)), on_white(light / 257, ALPHA) * 257, deep=True) <= 2


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_profile_of_grey_is_followed_where_a_format_stores_grey_as_rgb(kind: str, alpha: bool) -> None:
    grey = Image.fromarray(GREY.repeat(8, 0).repeat(8, 1))
    image = Image.merge("LA", [grey, Image.new("L", grey.size, 255)]) if alpha else grey
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100}
    stored = decode(saved(image, kind, **options))
    assert np.ptp(stored, axis=-1).max() == 0
    assert off(saved(image, kind, icc_profile=LINEAR_PROFILES["GRAY"], **options), shown(stored, "srgb", power(1))) <= 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_profile_of_other_channels_than_the_images_is_passed_over(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    for profile in (LINEAR_PROFILES["GRAY"], ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()):
        np.testing.assert_array_equal(decode(saved(RGB, kind, icc_profile=profile, **options)), RGB)


def test_palettes_with_transparency_and_a_profile_are_followed() -> None:
    palette = Image.fromarray(RGB).quantize(8)
    colors = np.asarray(palette.convert("RGB"))
    expected = shown(colors, "adobe", power(563 / 256))
    expected[np.asarray(palette) == 3] = 255
    assert off(png(palette, icc_profile=ADOBE_PROFILE, transparency=3), expected) <= 2


def test_a_webp_with_a_profile_and_transparency_is_followed() -> None:
    data = saved(np.dstack([RGB, ALPHA]), "WEBP", lossless=True, exact=True, icc_profile=ADOBE_PROFILE)
    assert off(data, on_white(shown(RGB, "adobe", power(563 / 256)), ALPHA)) <= 2.1
