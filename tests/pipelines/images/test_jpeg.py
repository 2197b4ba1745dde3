"""Plain JPEGs take a shorter way than Pillow's and come out the same, bit for bit; all else goes Pillow's way."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from condgen.errors import ImageError
from pipelines.images import decoding as images
from pipelines.images.decoding import decode
from pipelines.images.jpeg import decode_plain, plain_jpeg

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
    y, x = np.mgrid[0:height, 0:width]
    planes = [np.sin(x / 3) + np.cos(y / 7), np.sin((x + y) / 5), (x // 9 + y // 11) % 2 * 2 - 1.0]
    return Image.fromarray(((np.stack(planes, -1) / 4 + 0.5) * 255).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", **options)
    return buffer.getvalue()


def by_pillow(data: bytes, min_size_px: int | None = None) -> NDArray[np.uint8]:
    """The reference: Pillow alone."""
    with Image.open(io.BytesIO(data)) as image:
        if min_size_px is not None:
            image.draft(None, (min_size_px, min_size_px))
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def is_plain(data: bytes) -> bool:
    header = plain_jpeg(data)
    return header is not None and decode_plain(data, header) is not None


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
    assert plain_jpeg(jpeg(picture, icc_profile=profile)) is None
    assert plain_jpeg(jpeg(picture.convert("CMYK"))) is None
    assert plain_jpeg(jpeg(picture)[:-2]) is None
    assert plain_jpeg(b"\x89PNG\r\n\x1a\n") is None
    assert plain_jpeg(b"") is None
    exif = b"\xff\xe1" + (2 + 6 + 8).to_bytes(2, "big") + b"Exif\0\0II*\0\x08\0\0\0"
    whole = jpeg(picture)
    assert plain_jpeg(whole[:2] + exif + whole[2:]) is not None
    assert plain_jpeg(whole[:2] + exif + exif + whole[2:]) is None


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
    monkeypatch.setattr(images, "plain_jpeg", lambda _: None)
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
    monkeypatch.setattr(images, "plain_jpeg", lambda _: None)
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
        if plain_jpeg(data) is not None:
            np.testing.assert_array_equal(rgb, expected)
