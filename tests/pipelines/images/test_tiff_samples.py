"""TIFFs of every sample format are shown as TIFF 6.0 defines them, or refused where it leaves white open.

The files are written by tifffile, or by hand where it can't; the expectations are formulas.
"""

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import ImageCms

from condgen.errors import ImageError
from pipelines.images.decoding import decode, probe

RNG = np.random.default_rng(0)
SHARES = RNG.random((13, 17, 3))
GREY, MIN_IS_WHITE, PALETTE = "minisblack", "miniswhite", "palette"
LAYOUTS: list[dict[str, Any]] = [
    {}, {"byteorder": ">"}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}, {"rowsperstrip": 3},
    {"bigtiff": True, "compression": "lzw"},
]  # fmt: skip
WHITES = {
    "i1": 127, "i2": 32767, "i4": 2**31 - 1, "u4": 2**32 - 1, "u8": 2**64 - 1, "i8": 2**63 - 1,
    "f2": 1, "f4": 1, "f8": 1,
}  # fmt: skip
S_RANGE = {"i2": ("h", -1000, 3000), "f4": ("f", -5.0, 250.0), "u4": ("I", 100, 4000), "i4": ("i", -20, 20)}


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **({"photometric": "rgb" if pixels.ndim == 3 else GREY} | options))
    return buffer.getvalue()


def by_hand(
    pixels: NDArray[Any], bits: int, photometric: int, *more: tuple[int, str, tuple[Any, ...]], order: str = "<"
) -> bytes:
    """A TIFF of one strip, its samples packed as a stream of bits, or as bytes in the file's order."""
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    if bits % 8:
        rows = ["".join(f"{int(value):0{bits}b}" for value in row.ravel()) for row in pixels]
        body = b"".join(int(row.ljust(-(-len(row) // 8) * 8, "0"), 2).to_bytes(-(-len(row) // 8)) for row in rows)
    else:
        body = b"".join(int(value).to_bytes(bits // 8, "little" if order == "<" else "big") for value in pixels.ravel())
    height, width = pixels.shape[:2]
    tags: list[tuple[int, str, tuple[Any, ...]]] = [
        (256, "H", (width,)), (257, "H", (height,)), (258, "H", (bits,) * samples), (259, "H", (1,)),
        (262, "H", (photometric,)), (273, "I", (8,)), (277, "H", (samples,)), (278, "H", (height,)),
        (279, "I", (len(body),)), *more,
    ]  # fmt: skip
    body += bytes(len(body) % 2)
    directory, values = struct.pack(f"{order}H", len(tags)), b""
    behind = 8 + len(body) + 2 + 12 * len(tags) + 4
    for tag, kind, numbers in sorted(tags):
        packed = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        directory += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4, "f": 11, "h": 8, "i": 9}[kind], len(numbers))
        if len(packed) > 4:
            directory += struct.pack(f"{order}I", behind + len(values))
            values += packed
        else:
            directory += packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body))
    return head + body + directory + bytes(4) + values


def refusal(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data)
    return caught.value


def close(shown: NDArray[Any], shares: NDArray[Any]) -> bool:
    """Whether sRGB codes are those of shares of white, to the rounding."""
    expected = np.broadcast_to(shares if shares.ndim == 3 else shares[..., None], shown.shape)
    white = 255 if shown.dtype == np.uint8 else 65535
    return bool(np.abs(shown - expected.astype(float) * white).max() <= 0.51)


@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize("kind", WHITES)
@pytest.mark.parametrize("color", ["grey", "miniswhite", "rgb", "planes"])
def test_the_largest_number_is_white_whatever_the_type(kind: str, color: str, options: dict[str, Any]) -> None:
    if kind in ("u8", "i8", "f2") and options.get("predictor"):
        options = {"compression": "zlib"}
    shares = SHARES if color in ("rgb", "planes") else SHARES[..., 0]
    stored = (shares * WHITES[kind]).astype(kind)
    shares = stored.astype(float) / WHITES[kind]
    if color == "planes":
        data = tiff(np.moveaxis(stored, -1, 0).copy(), planarconfig="separate", **options)
    else:
        data = tiff(stored, **options, **({"photometric": MIN_IS_WHITE} if color == "miniswhite" else {}))
    shares = 1 - shares if color == "miniswhite" else shares
    assert close(decode(data), shares)
    assert close(decode(data, keep_16_bit=True), shares)
    assert decode(data, keep_16_bit=True).dtype == (np.uint8 if kind == "i1" else np.uint16)
    assert (probe(data).width, probe(data).height) == (17, 13)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 24, 32])
@pytest.mark.parametrize("photometric", [0, 1, 2])
def test_any_number_of_bits_is_read(photometric: int, bits: int, order: str) -> None:
    pixels = RNG.integers(0, 1 << bits, (5, 7, 3) if photometric == 2 else (5, 7), dtype=np.uint64)
    data = by_hand(pixels, bits, photometric, order=order)
    shares = pixels / ((1 << bits) - 1)
    shares = 1 - shares if photometric == 0 else shares
    if (photometric, bits) != (2, 16):  # Pillow takes the high byte
        assert close(decode(data), shares)
    assert decode(data, keep_16_bit=True).dtype == (np.uint16 if bits > 8 else np.uint8)
    assert close(decode(data, keep_16_bit=True), shares)


@pytest.mark.parametrize("kind", S_RANGE)
def test_the_range_that_a_file_tells_is_black_to_white(kind: str) -> None:
    code, black, white = S_RANGE[kind]
    stored = (black + SHARES[..., 0] * (white - black)).astype(kind)
    number = {"h": 8, "f": 11, "I": 4, "i": 9}[code]
    data = tiff(stored, extratags=[(340, number, 1, black, True), (341, number, 1, white, True)])
    assert close(decode(data), (stored.astype(float) - black) / (white - black))


def test_the_values_that_happen_to_be_used_change_nothing() -> None:
    """MinSampleValue and MaxSampleValue are statistics: "this field should not affect the visual appearance"."""
    pixels = RNG.integers(0, 4096, (5, 7), dtype=np.uint16)
    statistics = [(280, 3, 1, 0, True), (281, 3, 1, 4095, True)]
    assert close(decode(tiff(pixels, extratags=statistics)), pixels / 65535)
    assert close(decode(tiff(pixels.astype(np.int16), extratags=statistics)), pixels / 32767)


@pytest.mark.parametrize("pixels", [
    np.array([[0.0, 1.5]], np.float32), np.array([[-0.1, 0.5]]), np.array([[0.5, np.nan]], np.float32),
    np.array([[-1, 30000]], np.int16), np.array([[-1, 100]], np.int8), np.array([[0, 70000]], np.int32),
    np.array([[0, 255]], np.uint32), np.array([[0, 4095]], np.uint64), np.array([[200.0, 17.0]], np.float16),
])  # fmt: skip
def test_what_has_no_known_white_is_refused_not_shown_black(pixels: NDArray[Any]) -> None:
    error = refusal(tiff(pixels))
    assert error.error == "UnknownRange"
    assert "white is not known" in str(error)


@pytest.mark.parametrize("scale", [1, 256, 257])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 10])
@pytest.mark.parametrize("order", ["<", ">"])
def test_color_maps_of_8_bits_and_of_16_show_the_same(bits: int, scale: int, order: str) -> None:
    colors = RNG.integers(0, 256, (1 << bits, 3))
    colors[0] = (255, 0, 17)
    pixels = RNG.integers(0, 1 << bits, (6, 9))
    entries = tuple(int(value) * scale for value in colors.T.ravel())
    data = by_hand(pixels, bits, 3, (320, "H", entries), order=order)
    assert np.abs(decode(data).astype(int) - colors[pixels]).max() <= 1
    assert probe(data).mode == "P"


def test_a_color_map_that_is_dark_on_the_scale_of_16_bits_stays_dark() -> None:
    colors = np.array([[0, 0, 0], [256, 512, 1024]])
    data = by_hand(np.array([[0, 1]]), 1, 3, (320, "H", tuple(int(value) for value in colors.T.ravel())))
    assert decode(data).tolist() == [[[0, 0, 0], [1, 2, 4]]]


@pytest.mark.parametrize(("kind", "extra"), [("f4", 2), ("f4", 1), ("i2", 2), ("u4", 1), ("f4", 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_put_on_white_whatever_the_type(kind: str, extra: int, channels: int) -> None:
    alpha = RNG.random((13, 17, 1)) * 0.9 + 0.1
    shares = SHARES[..., :channels]
    stored = np.concatenate([shares * alpha if extra == 1 else shares, alpha], -1)
    data = tiff(
        (stored * WHITES[kind]).astype(kind), photometric="rgb" if channels == 3 else GREY,
        extrasamples=[extra], planarconfig="contig",
    )  # fmt: skip
    expected = shares if extra == 0 else shares * alpha + 1 - alpha
    assert np.abs(decode(data) / 255 - expected).max() < 0.004


@pytest.mark.parametrize("orientation", range(1, 9))
def test_odd_samples_are_turned_as_others_are(orientation: int) -> None:
    tags = [(274, 3, 1, orientation, True)]
    plain, odd = (tiff((SHARES * white).astype(kind), extratags=tags) for kind, white in (("u2", 65535), ("f8", 1)))
    assert np.abs(decode(plain).astype(int) - decode(odd)).max() <= 1
    assert (probe(odd).height, probe(odd).width) == decode(plain).shape[:2]


def test_a_profile_of_floats_is_followed() -> None:
    """Photoshop and GIMP write linear light so."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at = srgb.index(b"para")
    linear = srgb[:at] + b"para" + struct.pack(">IHHi", 0, 0, 0, 65536) + srgb[at + 16 :]
    shares = np.repeat(np.linspace(0.02, 1, 300)[None, :, None], 3, -1).astype(np.float32)
    expected = np.where(shares <= 0.0031308, 12.92 * shares, 1.055 * shares ** (1 / 2.4) - 0.055)
    assert np.abs(decode(tiff(shares, iccprofile=linear)) / 255 - expected).max() < 0.006


def test_the_full_page_behind_a_reduced_one_may_be_of_odd_samples_and_the_other_way_round() -> None:
    for kinds in (("u1", "f4"), ("f4", "u1"), ("i2", "f8")):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as writer:
            for reduced, kind in zip((1, 0), kinds, strict=True):
                pixels = (SHARES[:: 1 + reduced] * WHITES.get(kind, 255)).astype(kind)
                writer.write(pixels, photometric="rgb", subfiletype=reduced)
        assert decode(buffer.getvalue()).shape == (13, 17, 3)
        assert np.abs(decode(buffer.getvalue()) / 255 - SHARES).max() < 0.005


@pytest.mark.parametrize("data", [
    tiff((SHARES + 1j).astype(np.complex64)), by_hand(np.zeros((3, 3), int), 8, 9),
    by_hand(np.zeros((3, 3, 2), int), 8, 2),
])  # fmt: skip
def test_what_no_rule_covers_is_named(data: bytes) -> None:
    error = refusal(data)
    assert error.error == "UnknownLayout"
    assert "photometric interpretation" in str(error)
    with pytest.raises(ImageError, match="photometric"):
        probe(data)


@pytest.mark.parametrize("options", LAYOUTS)
def test_odd_samples_that_are_cut_or_damaged_are_refused_with_the_same_words(options: dict[str, Any]) -> None:
    data = tiff((SHARES * 32767).astype(np.int16), **options)
    for part in (0.3, 0.6, 0.9):
        cut = data[: int(len(data) * part)]
        assert str(refusal(cut)) == str(refusal(bytes(cut)))
    random = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(data)
        damaged[int(random.integers(len(data)))] = int(random.integers(256))
        try:
            assert decode(bytes(damaged), max_pixels=1_000_000).ndim == 3
        except ImageError as error:
            assert "0x" not in str(error)  # noqa: PT017
