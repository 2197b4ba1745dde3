"""What a photograph's file tells beside its pixels is kept in what is made from it, and nothing that would be wrong."""

import hashlib
import io
import pickle
import struct
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import samples
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, TiffImagePlugin

from condgen.errors import ImageError
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode
from pipelines.images.exif import MAX_EXIF_BYTES, read_exif
from pipelines.images.icc import SRGB_PROFILE
from pipelines.images.metadata import Metadata, read_metadata

FORMATS = ["jpeg", "png", "webp", "tiff"]
RGB = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
DEEP = np.random.default_rng(0).integers(0, 65536, (24, 36, 3), dtype=np.uint16)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_the_profile_in_our_images_is_srgb_and_never_changes() -> None:
    """Its bytes are in every image of a photograph that had a profile, and decide those images' bytes."""
    assert hashlib.sha256(SRGB_PROFILE).hexdigest().startswith("907831f05d9202a6841a9c57a210a0d2")
    assert len(SRGB_PROFILE) < 700
    ours, srgb = ImageCms.ImageCmsProfile(io.BytesIO(SRGB_PROFILE)), ImageCms.createProfile("sRGB")
    assert ImageCms.getProfileDescription(ours).strip() == "sRGB"
    for one, other in ((ours, srgb), (srgb, ours)):
        shown = np.asarray(ImageCms.profileToProfile(Image.fromarray(RGB), one, other))
        assert np.abs(shown.astype(int) - RGB).max() <= 1


def camera_exif(order: str = "<") -> Image.Exif:
    """An EXIF block as cameras write it, with all that must not be kept."""
    exif = Image.Exif()
    exif.endian = order
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.ImageDescription] = "A description that is longer than four bytes"
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.XResolution] = exif[ExifTags.Base.YResolution] = TiffImagePlugin.IFDRational(300, 1)
    exif[ExifTags.Base.ResolutionUnit] = 2
    exif[ExifTags.Base.PrintImageMatching] = b"PrintIM0300"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.DateTimeOriginal] = "2001:02:03 04:05:06"
    details[ExifTags.Base.ISOSpeedRatings] = 400
    details[ExifTags.Base.ExposureTime] = TiffImagePlugin.IFDRational(1, 250)
    details[ExifTags.Base.ColorSpace] = 65535
    details[ExifTags.Base.ExifImageWidth] = 9999
    details[ExifTags.Base.MakerNote] = b"maker's own notes" * 20
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef] = "N"
    place[ExifTags.GPS.GPSLatitude] = (TiffImagePlugin.IFDRational(47), TiffImagePlugin.IFDRational(22, 7), 0.5)
    return exif


def saved(kind: str, **options: Any) -> bytes:
    return samples.saved(Image.fromarray(RGB), kind, **options)


def encoded(rgb: NDArray[np.uint8], target: str, metadata: Metadata) -> bytes:
    """An image in a format, or as a JPEG by the encoder of a GPU, for which the CPU stands in."""
    if target == "jpeg of a device":
        return encode(rgb, metadata=metadata, device=torch.device("cpu"))
    return encode(rgb, target, metadata=metadata)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", [*FORMATS, "jpeg of a device"])
def test_exif_resolution_and_profile_go_from_each_format_to_each(source: str, target: str, order: str) -> None:
    dpi = {} if source == "webp" else {"dpi": (300, 300)}
    data = saved(source, exif=camera_exif(order).tobytes(), icc_profile=PROFILE, **dpi)
    metadata = read_metadata(data)
    assert metadata.has_profile
    assert metadata.resolution_dpi == pytest.approx((300, 300), abs=0.01)
    made = encoded(RGB, target, metadata)
    assert made == encoded(RGB.copy(), target, read_metadata(bytes(data)))
    image = opened(made)
    exif, details = image.getexif(), image.getexif().get_ifd(ExifTags.IFD.Exif)
    assert exif[ExifTags.Base.Make] == "Maker"
    assert exif[ExifTags.Base.ImageDescription] == "A description that is longer than four bytes"
    assert exif.get(ExifTags.Base.Orientation, 1) == 1
    assert ExifTags.Base.PrintImageMatching not in exif
    assert details[ExifTags.Base.DateTimeOriginal] == "2001:02:03 04:05:06"
    assert details[ExifTags.Base.ISOSpeedRatings] == 400
    assert Fraction(details[ExifTags.Base.ExposureTime]) == Fraction(1, 250)
    assert details[ExifTags.Base.ColorSpace] == 1
    assert not {ExifTags.Base.MakerNote, ExifTags.Base.ExifImageWidth} & set(details)
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    assert place[ExifTags.GPS.GPSLatitudeRef] == "N"
    assert [float(part) for part in place[ExifTags.GPS.GPSLatitude]] == pytest.approx([47, 22 / 7, 0.5])
    assert image.info["icc_profile"] == SRGB_PROFILE
    if target != "webp":
        assert [float(value) for value in image.info["dpi"]] == pytest.approx((300, 300), abs=0.01)
    assert float(exif[ExifTags.Base.XResolution]) == pytest.approx(300, abs=0.01)
    if target in ("png", "tiff"):
        np.testing.assert_array_equal(np.asarray(image), RGB)
    again = read_metadata(made)
    assert (again.exif, again.has_profile) == (metadata.exif, True)
    assert again.resolution_dpi == pytest.approx(metadata.resolution_dpi, abs=0.01)


@pytest.mark.parametrize("kind", FORMATS)
def test_without_metadata_the_bytes_are_those_of_the_pixels_alone(kind: str) -> None:
    plain = encode(RGB, kind)
    assert encode(RGB, kind, metadata=Metadata()) == plain
    assert read_metadata(plain) == Metadata()
    image = opened(plain)
    assert "icc_profile" not in image.info
    assert not image.info.get("exif")


def test_a_image_made_from_a_turned_one_is_shown_upright() -> None:
    data = saved("jpeg", exif=camera_exif(), quality=100, subsampling=0)
    upright = decode(data)
    assert upright.shape == (36, 24, 3)
    for kind in FORMATS:
        made = encode(upright, kind, metadata=read_metadata(data))
        assert ImageOps.exif_transpose(opened(made)).size == (24, 36)
        assert decode(made).shape == (36, 24, 3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bits_are_kept_in_png_and_tiff_with_metadata(kind: str, order: str) -> None:
    metadata = read_metadata(saved("jpeg", exif=camera_exif(order), icc_profile=PROFILE))
    made = encode(DEEP, kind, metadata=metadata)
    np.testing.assert_array_equal(decode(made, keep_16_bit=True), DEEP)
    assert made == encode(DEEP.copy(), kind, metadata=metadata)
    assert opened(made).getexif()[ExifTags.Base.Make] == "Maker"
    if kind == "tiff":
        np.testing.assert_array_equal(tifffile.imread(io.BytesIO(made)), DEEP)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_16_bits_are_rounded_where_a_format_has_8(kind: str) -> None:
    assert encode(DEEP, kind) == encode(np.rint(DEEP / 257).astype(np.uint8), kind)


def test_tiff_strips_of_every_size_are_read_by_others() -> None:
    for height, width in ((1, 1), (1, 70_000), (3000, 7), (700, 500)):
        rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        data = encode(rgb, "tiff")
        np.testing.assert_array_equal(tifffile.imread(io.BytesIO(data)), rgb)
        np.testing.assert_array_equal(np.asarray(opened(data)), rgb)
    with pytest.raises(ImageError, match="none"):
        encode(np.zeros((0, 4, 3), np.uint8), "tiff")


def test_the_thumbnail_is_not_kept() -> None:
    thumbnail = saved("jpeg")
    size = len(thumbnail)
    first = struct.pack("<H", 1) + struct.pack("<HHI4s", 271, 2, 4, b"Abc\0") + struct.pack("<I", 26)
    second = struct.pack("<H", 2) + struct.pack("<HHII", 513, 4, 1, 56) + struct.pack("<HHII", 514, 4, 1, size)
    data = saved("jpeg", exif=b"Exif\0\0II*\0\x08\0\0\0" + first + second + bytes(4) + thumbnail)
    assert thumbnail in data
    metadata = read_metadata(data)
    assert len(metadata.exif) < 100
    assert opened(encode(RGB, metadata=metadata)).getexif()[271] == "Abc"


def test_a_block_beyond_the_bound_is_dropped_and_one_below_it_fits_every_format() -> None:
    def described(size: int) -> bytes:
        exif = Image.Exif()
        exif[ExifTags.Base.ImageDescription] = "x" * size
        return saved("png", exif=exif, dpi=(72, 72))

    assert read_metadata(described(MAX_EXIF_BYTES + 10)).exif == b""
    metadata = read_metadata(described(MAX_EXIF_BYTES - 100))
    assert len(metadata.exif) > MAX_EXIF_BYTES - 100
    for kind in FORMATS:
        assert len(opened(encode(RGB, kind, metadata=metadata)).getexif()[270]) == MAX_EXIF_BYTES - 100


@pytest.mark.parametrize(("unit", "value", "dpi"), [(2, 300, 300), (3, 100, 254), (1, 300, None), (2, 0, None)])
def test_resolution_is_read_in_inches(unit: int, value: int, dpi: float | None) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.XResolution] = exif[ExifTags.Base.YResolution] = TiffImagePlugin.IFDRational(value)
    exif[ExifTags.Base.ResolutionUnit] = unit
    expected = None if dpi is None else (dpi, dpi)
    assert read_metadata(saved("webp", exif=exif)).resolution_dpi == expected


def test_resolution_of_other_formats() -> None:
    assert read_metadata(saved("jpeg", dpi=(72, 144))).resolution_dpi == (72, 144)
    assert read_metadata(saved("png", dpi=(72, 144))).resolution_dpi == pytest.approx((72, 144), abs=0.02)
    assert read_metadata(saved("bmp", dpi=(72, 72))).resolution_dpi == pytest.approx((72, 72), abs=0.02)
    made = encode(RGB, "png", metadata=Metadata(resolution_dpi=(72.009, 300.0)))
    assert opened(made).info["dpi"] == pytest.approx((72.009, 300.0), abs=0.01)
    assert read_metadata(encode(RGB, "webp", metadata=Metadata(resolution_dpi=(96.0, 96.0)))).resolution_dpi == (96, 96)


def test_metadata_goes_to_other_processes() -> None:
    metadata = read_metadata(saved("jpeg", exif=camera_exif(), icc_profile=PROFILE))
    assert pickle.loads(pickle.dumps(metadata)) == metadata  # noqa: S301
    with pytest.raises(AttributeError):
        metadata.exif = b""  # type: ignore[misc]


@pytest.mark.slow
@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_block_is_read_as_far_as_it_is_sound(data: st.DataObject) -> None:
    block = bytearray(camera_exif(data.draw(st.sampled_from("<>"))).tobytes())
    for _ in range(data.draw(st.integers(1, 6))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(block[: data.draw(st.integers(0, len(block)))])
    for damaged in (bytes(block), cut):
        once = read_exif(damaged).to_bytes()
        assert read_exif(once).to_bytes() == once  # what was written is whole
        assert len(once) <= 200_000


def test_directories_that_point_at_themselves_end() -> None:
    entries = struct.pack("<HHIIHHII", 34665, 4, 1, 8, 34853, 4, 1, 8)
    loop = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + struct.pack("<I", 8)
    read_exif(loop).to_bytes()


@pytest.mark.parametrize("data", [
    b"", b"x", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1\xff\xffExif\0\0", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffeXIf",
    b"RIFF\xff\xff\xff\xffWEBPEXIF\xff\xff\xff\xff", b"II*\0\xff\xff\xff\xff", b"II+\0", b"BM" + bytes(30), b"GIF89a",
    b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0\x1cftypavif", b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40,
])  # fmt: skip
def test_nothing_is_raised_for_what_is_no_image(data: bytes) -> None:
    assert read_metadata(data) == Metadata()


def test_a_large_jpeg_is_read_by_its_segments_alone() -> None:
    data = saved("jpeg", exif=camera_exif(), dpi=(300, 300))
    large = data + bytes(64 << 20)
    expected = read_metadata(data)
    started = time.perf_counter()
    for _ in range(20):
        assert read_metadata(large) == expected
    assert time.perf_counter() - started < 0.5
