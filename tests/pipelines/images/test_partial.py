"""What failed can be looked at: the part of a damaged image that is there is decoded, and the rest stays dark."""

import numpy as np
import pytest
from samples import saved, smooth

from condgen.errors import ImageError
from pipelines.images.decoding import decode
from pipelines.images.partial import decode_partly

SIZE = (160, 120)


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_the_part_before_a_cut_is_shown(name: str) -> None:
    whole = saved(smooth(0, SIZE), name)
    cut = whole[: len(whole) // 2]
    with pytest.raises(ImageError):
        decode(cut)
    part = decode_partly(cut)
    assert part.shape == decode(whole).shape
    quarter = SIZE[1] // 4
    assert np.abs(part[:quarter].astype(int) - decode(whole)[:quarter]).mean() < 4
    assert part[-quarter:].std() < 1, "nothing is known of the rest"


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_a_whole_image_is_as_ever(name: str) -> None:
    data = saved(smooth(1, SIZE), name)
    assert np.array_equal(decode_partly(data), decode(data))


def test_a_png_with_a_flipped_bit_is_shown_up_to_it() -> None:
    data = bytearray(saved(smooth(2, SIZE), "PNG"))
    data[len(data) * 3 // 4] ^= 0xFF
    assert decode_partly(bytes(data)).shape == (SIZE[1], SIZE[0], 3)


@pytest.mark.parametrize("data", [b"", b"nothing", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_has_no_part_keeps_its_own_error(data: bytes) -> None:
    with pytest.raises(ImageError) as whole:
        decode(data)
    with pytest.raises(ImageError) as part:
        decode_partly(data)
    assert str(part.value) == str(whole.value)


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_too_many_pixels_are_refused_in_part_as_well(name: str) -> None:
    cut = saved(smooth(3, SIZE), name)[:-400]
    with pytest.raises(ImageError):
        decode_partly(cut, max_pixels=SIZE[0] * SIZE[1] - 1)
