"""What a page says of draws by itself: copies of the input and equal draws are told, others are not."""

import numpy as np
from PIL import Image

from jobs.report.checks import check_draws, difference


def picture(seed: int, shift: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(40, 200, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(coarse + np.uint8(shift)).resize((120, 90))


def holds(samples: list[tuple[Image.Image | str, list[Image.Image | str]]]) -> list[str]:
    return [finding["holds"] for finding in check_draws(samples)]


def test_a_model_that_copies_its_input_is_told() -> None:
    assert holds([(picture(0), [picture(0), picture(0)]), (picture(1), [picture(1), picture(1)])]) == ["no", "no"]


def test_a_model_that_draws_is_not() -> None:
    assert holds([(picture(0), [picture(0, 20), picture(0, 40)])]) == ["yes", "yes"]


def test_one_copied_image_of_many_is_no_verdict() -> None:
    samples = [(picture(n), [picture(n, 0 if n == 3 else 30)]) for n in range(7)]
    assert [finding["holds"] for finding in check_draws(samples)] == ["yes"]  # one draw each: no spread to tell of


def test_images_that_are_not_there_are_left_out() -> None:
    assert check_draws([("it was moved", ["no picture"])]) == []
    assert holds([("it was moved", [picture(0), picture(1)])]) == ["yes"]


def test_the_distance_is_in_steps_of_255_at_any_size() -> None:
    black, white = Image.new("RGB", (100, 50)), Image.new("L", (10, 5), 255)
    assert difference(black, white) == 255.0
