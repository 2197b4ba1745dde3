"""Of a TIFF's images the full one is decoded, wherever it is; a sensor's data is an error that says what to do."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from condgen.errors import ImageError
from pipelines.images.decoding import decode, probe

RNG = np.random.default_rng(0)
FULL = RNG.integers(0, 256, (96, 144, 3), dtype=np.uint8)
SMALL = np.ascontiguousarray(FULL[::4, ::4])
OTHER = RNG.integers(0, 256, (90, 110, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (96, 144, 3), dtype=np.uint16)
MOSAIC = RNG.integers(0, 4096, (96, 144), dtype=np.uint16)
RGB: dict[str, Any] = {"photometric": "rgb", "metadata": None, "software": False}
SENSOR: dict[str, Any] = {**RGB, "photometric": 32803}


def tiff(*pages: tuple[NDArray[Any], dict[str, Any]], bigtiff: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=bigtiff) as writer:
        for pixels, options in pages:
            writer.write(pixels, **{**RGB, **options})
    return buffer.getvalue()


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("full", [FULL, DEEP], ids=["8 bits", "16 bits"])
def test_a_full_image_below_a_reduced_copy_is_the_photograph(full: NDArray[Any], bigtiff: bool) -> None:
    """As scanners and cameras write it: NewSubfileType 1 in the first page, the image in its SubIFDs."""
    data = tiff((SMALL, {"subfiletype": 1, "subifds": 2}), (SMALL, {"subfiletype": 1}), (full, {}), bigtiff=bigtiff)
    assert np.array_equal(decode(data, keep_16_bit=True), full)
    assert (probe(data).width, probe(data).height) == (144, 96)


def test_the_order_of_pages_and_what_is_below_them_does_not_matter() -> None:
    below = tiff((SMALL, {"subfiletype": 1, "subifds": 1}), (FULL, {}), (OTHER, {}))
    behind = tiff((SMALL, {"subfiletype": 1, "subifds": 1}), (SMALL, {"subfiletype": 1}), (FULL, {}))
    pyramid = tiff((FULL, {"subifds": 2}), (SMALL, {"subfiletype": 1}), (SMALL[::2, ::2], {"subfiletype": 1}))
    mask = tiff((SMALL, {"subfiletype": 1}), (FULL[..., 0] > 99, {"subfiletype": 4, "photometric": "minisblack"}),
                (FULL, {}))  # fmt: skip
    for data in (below, behind, pyramid, mask):
        assert np.array_equal(decode(data), FULL)


def test_a_small_page_of_the_same_shape_as_a_large_one_is_its_copy_even_if_nothing_says_so() -> None:
    assert np.array_equal(decode(tiff((SMALL, {}), (FULL, {}))), FULL)
    assert np.array_equal(decode(tiff((SMALL, {"subifds": 1}), (FULL, {}))), FULL)
    assert np.array_equal(decode(tiff((SMALL, {}), (OTHER, {}), (FULL, {}))), FULL)


def test_pages_of_a_document_are_no_copies_of_each_other() -> None:
    assert np.array_equal(decode(tiff((FULL, {}), (OTHER, {}))), FULL)
    assert np.array_equal(decode(tiff((SMALL, {}), (OTHER, {}))), SMALL)
    assert np.array_equal(decode(tiff((FULL, {}), (np.rot90(FULL).copy(), {}))), FULL)
    page = np.zeros((1100, 850, 3), np.uint8)
    assert np.array_equal(decode(tiff((page, {}), (np.zeros((2200, 1700, 3), np.uint8), {}))), page)


def test_an_image_below_takes_the_orientation_of_the_first_page() -> None:
    turned = (274, 3, 1, 6, True)
    data = tiff((SMALL, {"subfiletype": 1, "subifds": 1, "extratags": [turned]}), (FULL, {}))
    assert np.array_equal(decode(data), np.rot90(FULL, -1))
    assert (probe(data).width, probe(data).height) == (96, 144)
    own = tiff((SMALL, {"subfiletype": 1, "subifds": 1, "extratags": [turned]}),
               (FULL, {"extratags": [(274, 3, 1, 3, True)]}))  # fmt: skip
    assert np.array_equal(decode(own), FULL[::-1, ::-1])


@pytest.mark.parametrize("page", [(MOSAIC, SENSOR), (DEEP, {**RGB, "photometric": 34892})], ids=["mosaic", "linear"])
def test_a_raw_file_is_to_be_developed_first(page: tuple[NDArray[Any], dict[str, Any]]) -> None:
    """As DNG and NEF: a small copy, perhaps a preview of full size, and the sensor's data."""
    copy, preview = (SMALL, {"subfiletype": 1, "subifds": 2}), (FULL, {"subfiletype": 1})
    for data in (
        tiff(copy, preview, page),
        tiff(copy, page, preview),
        tiff((SMALL, {"subfiletype": 1}), page),
        tiff(page),
        tiff((SMALL, {"subifds": 1}), page),
    ):
        with pytest.raises(ImageError) as caught:
            decode(data)
        assert (caught.value.stage, caught.value.error) == ("decode", "CameraRaw")
        assert "develop it first" in str(caught.value)
        with pytest.raises(ImageError, match="develop it first"):
            probe(data)


def test_a_dng_with_nothing_but_a_reduced_copy_is_no_photograph() -> None:
    version = (50706, 1, 4, (1, 4, 0, 0), True)
    with pytest.raises(ImageError, match="develop it first"):
        decode(tiff((SMALL, {"subfiletype": 1, "extratags": [version]})))


@pytest.mark.parametrize("head", [
    b"FUJIFILMCCD-RAW 0201FF383501", b"II\x2a\0\x10\0\0\0CR\x02\0" + bytes(20), b"IIU\0\x18\0\0\0", b"IIRO\x08\0\0\0",
    b"IIRS\x08\0\0\0", b"FOVb\0\0\2\0", b"II\x1a\0\0\0HEAPCCDR\2\0\1\0", b"\0MRM\0\0\1\0",
    b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
], ids=["RAF", "CR2", "RW2", "ORF", "ORF of the E-series", "X3F", "CRW", "MRW", "CR3"])  # fmt: skip
def test_raw_files_are_known_by_their_signatures(head: bytes) -> None:
    for function in (decode, probe):
        with pytest.raises(ImageError) as caught:
            function(head + bytes(200))
        assert caught.value.error == "CameraRaw"


def test_a_full_image_that_can_not_be_decoded_is_an_error_and_its_copy_is_not_shown() -> None:
    data = bytearray(tiff((SMALL, {"subfiletype": 1, "subifds": 1}), (FULL, {"rowsperstrip": 96})))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        sub = file.pages.first.pages[0]
        place = sub.tags[259].valueoffset
    data[place : place + 2] = struct.pack("<H", 34712 if data[:2] == b"II" else 0)  # a compression that nobody reads
    with pytest.raises(ImageError):
        decode(bytes(data))
