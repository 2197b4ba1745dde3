"""Plain JPEGs take a shorter way than Pillow's and come out the same, bit for bit; all else goes Pillow's way."""

import io
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import whole_images
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps
from samples import saved

from condgen.errors import ImageError
from pipelines.images import decoding as images
from pipelines.images.decoding import decode
from pipelines.images.jpeg import read_header

FORMS: dict[str, dict[str, Any]] = {
    "4:2:0": {"quality": 85},
    "4:2:2": {"quality": 85, "subsampling": 1},
    "4:4:4": {"quality": 95, "subsampling": 0},
    "progressive": {"quality": 80, "progressive": True},
    "optimized": {"quality": 40, "optimize": True},
    "restarts": {"quality": 85, "restart_marker_blocks": 5},
    "comment": {"quality": 85, "comment": "a comment"},
    "keep_rgb": {"quality": 90, "keep_rgb": True},
}


def textured(width: int, height: int) -> Image.Image:
    """Edges and colours in every direction, so that an error of scaling or chroma shows."""
    return Image.fromarray(whole_images.textured(width, height))


def jpeg(image: Image.Image, **options: Any) -> bytes:
    return saved(image, "jpeg", **options)


def by_pillow(data: bytes, min_size_px: int | None = None) -> NDArray[np.uint8]:
    """The reference: Pillow alone."""
    with Image.open(io.BytesIO(data)) as image:
        if min_size_px is not None:
            image.draft(None, (min_size_px, min_size_px))
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def is_plain(data: bytes) -> bool:
    header = read_header(data)
    return header is not None and header.is_plain


@pytest.mark.parametrize("min_size_px", [None, 1, 20, 64, 100, 255, 256, 1000])
@pytest.mark.parametrize("size", [(256, 256), (513, 771), (640, 129), (17, 9), (1, 1)])
@pytest.mark.parametrize("form", FORMS)
def test_a_plain_jpeg_is_bit_for_bit_pillows(form: str, size: tuple[int, int], min_size_px: int | None) -> None:
    data = jpeg(textured(*size), **FORMS[form])
    assert form == "keep_rgb" or is_plain(data)
    np.testing.assert_array_equal(decode(data, min_size_px=min_size_px), by_pillow(data, min_size_px))


@pytest.mark.parametrize("min_size_px", [None, 50])
def test_grey_is_bit_for_bit_pillows(min_size_px: int | None) -> None:
    data = jpeg(textured(300, 200).convert("L"))
    assert is_plain(data)
    np.testing.assert_array_equal(decode(data, min_size_px=min_size_px), by_pillow(data, min_size_px))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_applied_on_the_shorter_way_too(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(textured(300, 200), exif=exif)
    assert is_plain(data)
    np.testing.assert_array_equal(decode(data), by_pillow(data))
    np.testing.assert_array_equal(decode(data, min_size_px=90), by_pillow(data, 90))


def test_what_is_not_plain_goes_pillows_way() -> None:
    picture = textured(64, 64)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert not is_plain(jpeg(picture, icc_profile=profile))
    assert not is_plain(jpeg(picture.convert("CMYK")))
    assert not is_plain(b"\x89PNG\r\n\x1a\n")
    assert not is_plain(b"")
    exif = b"\xff\xe1" + (2 + 6 + 8).to_bytes(2, "big") + b"Exif\0\0II*\0\x08\0\0\0"
    whole = jpeg(picture)
    assert is_plain(whole[:2] + exif + whole[2:])
    assert not is_plain(whole[:2] + exif + exif + whole[2:])


def test_a_image_is_put_where_it_is_wanted_whichever_way_it_went() -> None:
    picture = textured(64, 48)
    exif = Image.Exif()
    exif[0x0112] = 3
    turned, profile = jpeg(picture, exif=exif), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for data in (jpeg(picture), turned, jpeg(picture, icc_profile=profile)):
        batch = np.zeros((2, 48, 64, 3), np.uint8)
        assert np.shares_memory(decode(data, out=batch[1]), batch)
        np.testing.assert_array_equal(batch[1], by_pillow(data))
        assert not batch[0].any()
        other = np.zeros((64, 48, 3), np.uint8)
        np.testing.assert_array_equal(decode(data, out=other), by_pillow(data))
        strided = np.zeros((48, 128, 3), np.uint8)[:, ::2]
        np.testing.assert_array_equal(decode(data, out=strided), by_pillow(data))


def verdicts(files: list[bytes]) -> list[bytes | str]:
    """The pixels of each file, or why it can't be decoded."""
    found: list[bytes | str] = []
    for data in files:
        try:
            found.append(decode(data).tobytes())
        except ImageError as error:
            found.append(str(error))
    return found


def test_a_header_that_is_cut_anywhere_is_judged_as_pillow_judges_it(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = jpeg(textured(96, 80), quality=80)
    cut = [whole[:length] for length in range(2, whole.index(b"\xff\xda") + 16)]
    ours = verdicts(cut)
    monkeypatch.setattr(images, "_decode_plain", lambda *_: None)
    assert ours == verdicts(cut)


@pytest.mark.soak
def test_a_damaged_jpeg_is_judged_as_pillow_judges_it(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = jpeg(textured(96, 80), quality=80, restart_marker_blocks=4)
    rng = np.random.default_rng(int(os.environ["SOAK_SEED"]))
    damaged = []
    for _ in range(int(os.environ.get("SOAK_FILES", "200"))):
        data = bytearray(whole)
        for position in rng.integers(2, len(data), int(rng.integers(1, 4))):
            data[position] = int(rng.integers(256))
        damaged.append(bytes(data) if rng.random() < 0.7 else bytes(data[: int(rng.integers(2, len(data)))]))

    ours = verdicts(damaged)
    monkeypatch.setattr(images, "_decode_plain", lambda *_: None)
    assert ours == verdicts(damaged)
    assert len({type(verdict) for verdict in ours}) == 2


def test_a_image_of_thousands_of_scans_is_refused_and_one_of_a_few_is_not() -> None:
    """Each scan costs a pass over all of the picture, however few bytes it has."""
    whole = jpeg(Image.new("RGB", (1000, 1000), (1, 2, 3)), progressive=True)
    last = whole.rindex(b"\xff\xda")
    few, many = (whole[:last] + whole[last:-2] * count + whole[-2:] for count in (20, 10_001))
    np.testing.assert_array_equal(decode(few), decode(whole))
    with pytest.raises(ImageError) as caught:
        decode(many)
    assert caught.value.error == "TooManyScans"
    assert len(many) < 1 << 20


def test_photographs_come_out_as_pillow_decodes_them(photos: Path) -> None:
    found = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]
    assert found
    for data in found:
        rgb = decode(data)
        expected = by_pillow(data)
        assert rgb.shape == expected.shape
        if is_plain(data):
            np.testing.assert_array_equal(rgb, expected)


END = b"\xff\xd9"
SCANS: dict[str, dict[str, Any]] = {
    "baseline": {"quality": 85},
    "optimized": {"quality": 85, "optimize": True},
    "progressive": {"quality": 85, "progressive": True},
    "restarts": {"quality": 85, "restart_marker_blocks": 6},
    "profile": {"quality": 85, "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()},
    "rare sampling": {"quality": 85},
    "cmyk": {"quality": 85},
}


@cache
def jpeg_of(form: str) -> bytes:
    picture = textured(320, 240)
    noisy = np.asarray(picture) // 2 + np.random.default_rng(3).integers(0, 128, (240, 320, 3), dtype=np.uint8)
    image = Image.fromarray(noisy)
    if form == "rare sampling":  # 3 x 1, which libjpeg decodes and TurboJPEG's interface does not know
        y, *chroma = image.convert("YCbCr").split()
        return of_scans([y, *(plane.resize((107, 240)) for plane in chroma)], (0x31, 0x11, 0x11))[0]
    return jpeg(image.convert("CMYK") if form == "cmyk" else image, **SCANS[form])


def of_scans(planes: list[Image.Image], sampling: tuple[int, ...]) -> tuple[bytes, bytes, list[bytes]]:
    """A sequential JPEG with a scan for each channel, as `jpegtran -scans` writes it; its header and its scans."""
    files = [jpeg(plane, quality=85) for plane in planes]
    frame, tables = files[0].index(b"\xff\xc0"), files[0].index(b"\xff\xc4")
    components = b"".join(bytes((channel, factors, 0)) for channel, factors in enumerate(sampling, 1))
    head = files[0][: frame + 2] + b"\0\x11" + files[0][frame + 4 : frame + 9] + b"\3" + components
    head += files[0][tables : files[0].index(b"\xff\xda")]
    scans = []
    for channel, file in enumerate(files, 1):
        scan = file.index(b"\xff\xda")
        scans.append(file[scan : scan + 5] + bytes((channel, 0)) + file[scan + 7 : -2])
    return head + b"".join(scans) + END, head, scans


def first_scan(data: bytes) -> int:
    return data.index(b"\xff\xda") + 16


@pytest.mark.parametrize("tail", ["end", "zeros", "zeros and end", "ones and end", "another", "film"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("form", SCANS)
def test_a_jpeg_that_was_cut_in_its_scan_is_refused_whatever_was_put_behind_it(
    form: str, part: float, tail: str
) -> None:
    whole = jpeg_of(form)
    start = first_scan(whole)
    cut = whole[: start + int((len(whole) - start) * part)]
    missing = len(whole) - len(cut)
    behind = {
        "end": END, "zeros": bytes(missing), "zeros and end": bytes(missing) + END,
        "ones and end": b"\xff" * missing + END, "another": whole, "film": b"\xff\xda and a film" + END,
    }  # fmt: skip
    with pytest.raises(ImageError):
        decode(cut + behind[tail], min_size_px=30 if part == 0.5 else None)


@pytest.mark.parametrize("length", [64, 512, 4096])
@pytest.mark.parametrize("form", ["baseline", "optimized", "profile", "restarts", "cmyk"])
def test_zeros_in_the_middle_of_a_scan_are_damage(form: str, length: int) -> None:
    whole = jpeg_of(form)
    start = first_scan(whole)
    for part in (0.1, 0.4, 0.7):
        place = start + int((len(whole) - start) * part)
        with pytest.raises(ImageError):
            decode(whole[:place] + bytes(length) + whole[place + length :])


@pytest.mark.parametrize("form", ["baseline", "optimized", "progressive", "profile", "restarts", "cmyk"])
def test_a_sector_of_another_file_a_lost_one_and_garbage_are_damage(form: str) -> None:
    whole = jpeg_of(form)
    start = first_scan(whole)
    place = start + int((len(whole) - start) * 0.4)
    garbage = np.random.default_rng(1).integers(0, 256, 4096, dtype=np.uint8).tobytes()
    ones, early = b"\xff" * 4096, whole[start : start + 4096]
    for sector in (garbage, garbage.replace(b"\xff", b"\xfe"), ones, early, b""):
        with pytest.raises(ImageError):
            decode(whole[:place] + sector + whole[place + 4096 :])


def test_missing_restart_intervals_are_damage() -> None:
    whole = jpeg_of("restarts")
    restarts = [place for place in range(len(whole) - 1) if whole[place] == 0xFF and 0xD0 <= whole[place + 1] <= 0xD7]
    first, second, ninth, last = restarts[9], restarts[10], restarts[17], restarts[-1]
    for damaged in (
        whole[:first] + whole[second:],
        whole[:first] + whole[ninth:],  # eight of them: the markers' numbers still fit
        whole[:last] + END,
        whole[: second - 20] + whole[second:],
        whole[:first] + bytes(ninth - first) + whole[ninth:],
    ):
        with pytest.raises(ImageError):
            decode(damaged)


def test_a_progressive_jpeg_without_its_last_scans_is_half_there() -> None:
    """It may end at any scan as if it were whole; viewers show it blurred, or without color."""
    whole = jpeg_of("progressive")
    scans = [place for place in range(len(whole) - 1) if whole[place : place + 2] == b"\xff\xda"]
    assert len(scans) > 5
    for scan in scans[1:]:
        with pytest.raises(ImageError, match="lacks scans"):
            decode(whole[: whole.rfind(b"\xff\xc4", 0, scan)] + END)
    without_one = whole[: whole.rfind(b"\xff\xc4", 0, scans[2])] + whole[whole.rfind(b"\xff\xc4", 0, scans[3]) :]
    with pytest.raises(ImageError, match="lacks scans"):
        decode(without_one)


def test_a_sequential_jpeg_of_three_scans_lacks_color_without_the_last() -> None:
    whole, head, scans = of_scans([textured(64, 48).getchannel(band) for band in range(3)], (0x11, 0x11, 0x11))
    np.testing.assert_array_equal(decode(whole), by_pillow(whole))
    for damaged in (head + b"".join(scans[:2]) + END, head + scans[0] + scans[2] + END, head + scans[0]):
        with pytest.raises(ImageError, match="lacks scans"):
            decode(damaged)


@pytest.mark.parametrize("form", SCANS)
def test_what_viewers_show_whole_is_not_refused(form: str) -> None:
    """Bytes behind the image, no end marker where nothing else is missing, padding, another image behind it."""
    whole = jpeg_of(form)
    expected = decode(whole)
    body = whole[:-2]
    for sound in (
        body, whole + bytes(5000), whole + b"a film behind it", whole + whole, body + whole, body + bytes(3000),
        *(body + bytes(count) + END for count in (1, 5, 16, 600)), body + b"\xff" * 9 + END, body + b"\xa5\x3c" + END,
        body + b"\xff\xfe\0\x06note" + END, body + b"\xff\xdc\0\4" + bytes((0, 240)) + END,
    ):  # fmt: skip
        np.testing.assert_array_equal(decode(sound), expected)


def test_padding_before_restart_markers_and_odd_parameters_of_a_sequential_scan_do_no_harm() -> None:
    whole = jpeg_of("restarts")
    padded = bytearray(whole[: first_scan(whole)])
    for place in range(first_scan(whole), len(whole) - 1):
        if whole[place] == 0xFF and 0xD0 <= whole[place + 1] <= 0xD7:
            padded += bytes(3)
        padded.append(whole[place])
    np.testing.assert_array_equal(decode(bytes(padded) + whole[-1:]), decode(whole))
    scan = whole.index(b"\xff\xda")
    np.testing.assert_array_equal(decode(whole[: scan + 11] + b"\0\0\1" + whole[scan + 14 :]), decode(whole))


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True, "optimize": True}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_plain_areas_whose_data_is_all_zeros_are_sound(mode: str, options: dict[str, Any]) -> None:
    image = Image.new(mode, (1200, 900), "white")
    image.paste(textured(80, 60), (300, 700))
    data = jpeg(image, **options)
    assert (bytes(24) in data) == ("optimize" in options)
    for sound in (data, data[:-2]):
        np.testing.assert_array_equal(decode(sound), by_pillow(data))
