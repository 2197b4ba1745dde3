"""Aged grey images: a pure function of (seed, epoch, sample), each effect in its direction, and a stream beside RGB."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from samples import gradient, saved, stream_config, tar_of

from condgen.color.lab import rgb_to_lab
from condgen.errors import ConfigError
from pipelines.streaming.aging import LUMINANCE, Aging, AgingDraw, draw_aging
from pipelines.streaming.augmentation import Augmentation
from pipelines.streaming.epoch_order import OrderConfig, StreamPosition
from pipelines.streaming.stream import StreamConfig, TrainingStream, load_block

# Of the 12 gradients' squares in epoch 1, as they were before there was aging.
PLAIN_SHA256 = "acbb475b74c4898d3d8962e70034d21555b23cbbe20c8426497538fac15f30ea"
WHERE: dict[str, Any] = {"seed": 1, "epoch": 0, "source": "a.tar", "key": "x"}
BLUE_SENSITIVE, ORTHOCHROMATIC = (0.0, 0.1, 0.9), (0.0, 0.6, 0.4)


@pytest.fixture
def plan(tmp_path: Path) -> StreamConfig:
    """Twelve gradients in one shard, not aged."""
    members = [(f"{number:05d}.png", saved(gradient(number, (48, 40)))) for number in range(12)]
    (tmp_path / "train-000000.tar").write_bytes(tar_of(members))
    order = OrderConfig(seed=3, lanes=1, window_chunks=1, batch_size=4)
    return stream_config(tmp_path, order, Augmentation(size_px=16, crop_scale_min=0.5, flip=True))


def loaded(plan: StreamConfig, epoch: int = 1) -> npt.NDArray[np.uint8]:
    row = load_block(plan.chunks.append_column("epoch", [[epoch]]), plan=plan).to_pylist()[0]
    assert set(row["weight"]) == {1}
    return np.frombuffer(row["rgb"], np.uint8).reshape(-1, *plan.image_shape)


def flat_square(code: int = 128, size_px: int = 64) -> npt.NDArray[np.uint8]:
    return np.full((size_px, size_px, 3), code, dtype=np.uint8)


def patches(*colors: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Bands of 16 rows, one a color."""
    return np.repeat(np.array(colors, dtype=np.uint8), 16, axis=0)[:, None].repeat(64, axis=1)


def band_means(grey: npt.NDArray[np.uint8]) -> list[float]:
    means: list[float] = grey.reshape(-1, 16, grey.shape[1]).mean(axis=(1, 2)).tolist()
    return means


def test_what_happens_to_a_sample_depends_on_seed_epoch_and_sample_alone() -> None:
    aging, square = Aging(share=1.0), np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    first, again = draw_aging(aging, **WHERE), draw_aging(aging, **WHERE)
    assert first == again is not None
    assert first.apply(square).tobytes() == again.apply(square).tobytes()
    for change in ({"seed": 2}, {"epoch": 1}, {"source": "b.tar"}, {"key": "y"}):
        other = draw_aging(aging, **(WHERE | change))
        assert other != first
        assert other.apply(square).tobytes() != first.apply(square).tobytes()


@pytest.mark.slow
def test_the_share_is_that_of_samples_and_of_each_effect() -> None:
    draws = [draw_aging(Aging(share=0.3), **(WHERE | {"key": str(key)})) for key in range(4000)]
    aged = [draw for draw in draws if draw is not None]
    assert abs(len(aged) - 1200) < 116  # four standard deviations of 4,000 draws: once in 16,000 seeds
    for name, share in (("grain", 0.5), ("blur_px", 0.35), ("halftone", 0.05), ("edge_fading", 0.4)):
        deviation = math.sqrt(len(aged) * share * (1 - share))
        assert abs(sum(getattr(draw, name) != 0 for draw in aged) - share * len(aged)) < 4 * deviation
    blue = sum(draw.response[2] > 0.7 for draw in aged)
    assert abs(blue - 0.25 * len(aged)) < 4 * math.sqrt(len(aged) * 0.1875)
    assert not any(draw_aging(Aging(share=0.0), **(WHERE | {"key": str(key)})) for key in range(50))


def test_the_share_of_one_effect_leaves_the_others_as_they_were() -> None:
    drawn = draw_aging(Aging(share=1.0, grain=1.0), **WHERE)
    assert draw_aging(Aging(share=1.0, grain=0.0), **WHERE) == replace(drawn, grain=0.0)
    assert drawn.grain > 0


@pytest.mark.parametrize(
    "values", [{"share": 1.5}, {"share": 1.0, "grain": -0.1}, {"share": 1.0, "blue_sensitive": 0.8}]
)
def test_shares_that_are_none_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="aging"):
        Aging(**values)


def test_a_draw_without_effects_is_the_nearest_code_to_l() -> None:
    square = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    grey = torch.from_numpy(AgingDraw().apply(square).astype(np.float32) / 255)
    lightness = rgb_to_lab(torch.from_numpy(square).permute(2, 0, 1).float() / 255)[0]
    found = rgb_to_lab(grey.expand(3, -1, -1))[0]
    assert float((found - lightness).abs().max()) < 0.3  # half a code is 0.2 to 0.25, the curve's table the rest


def test_blue_sensitive_emulsions_darken_all_but_blue_and_orthochromatic_ones_red_alone() -> None:
    square = patches((200, 60, 50), (60, 110, 220), (90, 170, 80), (128, 128, 128))
    red, blue, green, _ = band_means(AgingDraw().apply(square))
    for response in (BLUE_SENSITIVE, ORTHOCHROMATIC):
        red_seen, blue_seen, green_seen, _ = band_means(AgingDraw(response=response).apply(square))
        assert red_seen < red - 30
        assert blue_seen > blue + 15
        assert (green_seen > green - 25) == (response == ORTHOCHROMATIC)


def test_an_emulsion_leaves_a_grey_image_as_it_was() -> None:
    square = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    seen = AgingDraw(response=BLUE_SENSITIVE).apply(square)
    assert np.abs(seen.astype(int) - square[..., 0]).max() <= 1


@pytest.mark.parametrize("emulsion", ["panchromatic", "orthochromatic", "blue_sensitive"])
def test_drawn_responses_add_up_to_one(emulsion: str) -> None:
    shares = {"orthochromatic": 0.0, "blue_sensitive": 0.0} | ({} if emulsion == "panchromatic" else {emulsion: 1.0})
    draws = [draw_aging(Aging(share=1.0, **shares), **(WHERE | {"key": str(key)})) for key in range(100)]
    responses = np.array([draw.response for draw in draws if draw is not None])
    np.testing.assert_allclose(responses.sum(axis=1), 1.0)
    red, blue = responses[:, 0], responses[:, 2]
    if emulsion == "panchromatic":
        assert red.min() > 0.1
    else:
        assert red.max() < 0.06 < LUMINANCE[0]
        assert (blue.min() > 0.7) == (emulsion == "blue_sensitive")


def test_tones_follow_exposure_gamma_contrast_and_fading() -> None:
    steps = patches((0, 0, 0), (64, 64, 64), (192, 192, 192), (255, 255, 255))
    black, dark, light, white = band_means(AgingDraw().apply(steps))
    assert (black, dark, light, white) == (0, 64, 192, 255)
    assert band_means(AgingDraw(stops=0.5).apply(steps))[1] > dark + 8
    assert band_means(AgingDraw(gamma=1.3).apply(steps))[1] < dark - 8
    steep, flat = (band_means(AgingDraw(contrast=contrast).apply(steps)) for contrast in (0.6, -0.4))
    assert steep[2] - steep[1] > light - dark + 10 > flat[2] - flat[1] + 20
    faded = band_means(AgingDraw(black=0.2, white=0.7).apply(steps))
    assert (faded[0], faded[3]) == (51, 178)  # 0.2 and 0.7 of 255, rounded to even
    bright = patches(*[(code, code, code) for code in (235, 245, 255)])
    clipped, kept = (band_means(AgingDraw(stops=0.5, shoulder=shoulder).apply(bright)) for shoulder in (0.0, 0.4))
    assert clipped == [255, 255, 255]
    assert kept == sorted(set(kept))


def test_blur_keeps_the_mean_and_softens_edges_and_a_vignette_darkens_corners() -> None:
    edge = np.concatenate([flat_square(40)[:, :32], flat_square(200)[:, :32]], axis=1)
    sharp, soft = AgingDraw().apply(edge).astype(int), AgingDraw(blur_px=1.0).apply(edge).astype(int)
    assert np.abs(np.diff(sharp[32])).max() == 160
    assert 30 < np.abs(np.diff(soft[32])).max() < 100
    np.testing.assert_array_equal(soft[:, :28], sharp[:, :28])
    np.testing.assert_array_equal(soft[:, 36:], sharp[:, 36:])
    dark = AgingDraw(vignette=0.5, center=(0.2, 0.0)).apply(flat_square()).astype(int)
    assert dark[32, 38] >= 127
    assert dark[0, 0] < dark[0, -1] < 115  # the left corners are the farther ones
    assert dark[0, 0] == pytest.approx(93, abs=3)  # half of 128's light


def test_grain_has_its_strength_and_correlation_and_is_weaker_in_black_and_white() -> None:
    def noise(code: int, **options: float) -> npt.NDArray[np.float64]:
        grey = AgingDraw(key=(5, 6), grain=0.05, **options).apply(flat_square(code, 128))
        return grey.astype(np.float64) - code

    middle, dark = noise(128), noise(20)
    assert abs(middle.mean()) < 0.5
    assert middle.std() == pytest.approx(0.05 * 255, rel=0.05)  # 16,384 pixels, some dozens of which go together
    assert dark.std() < 0.75 * middle.std()
    fine, coarse = (
        np.corrcoef(grain[:, 1:].ravel(), grain[:, :-1].ravel())[0, 1]
        for grain in (noise(128, grain_px=0.4), noise(128, grain_px=1.1))
    )
    assert fine < 0.3 < 0.7 < coarse


def test_stains_are_slow_and_edges_fade_to_white_or_black() -> None:
    square = flat_square(128)
    stained = AgingDraw(key=(1, 2), stains=0.05).apply(square).astype(float)
    assert 3 < stained.std() < 30
    assert np.abs(np.diff(stained, axis=1)).max() <= 5
    for fading, sign in ((0.5, 1), (-0.5, -1)):
        faded = AgingDraw(edge_fading=fading).apply(square).astype(int)
        assert faded[32, 32] == 128
        assert sign * (faded[32, 0] - 128) > 30
        assert sign * (faded[0, 32] - 128) > 30


def test_a_screen_has_its_period_and_wear_leaves_most_of_a_print_alone() -> None:
    screen = AgingDraw(halftone=0.1, halftone_px=4.0, halftone_angle=0.0).apply(flat_square(128)).astype(int)
    np.testing.assert_array_equal(screen[4:], screen[:-4])
    assert np.ptp(screen) == pytest.approx(2 * 0.1 * 255, abs=4)
    worn = AgingDraw(key=(3, 4), scratches=3, specks=10).apply(flat_square(128, 128)).astype(int)
    touched = np.abs(worn - 128) > 10
    assert 0.002 < touched.mean() < 0.1
    assert worn.max() > 150
    assert worn.min() < 106


def test_without_aging_a_stream_has_the_bytes_that_it_always_had(plan: StreamConfig) -> None:
    assert hashlib.sha256(loaded(plan).tobytes()).hexdigest() == PLAIN_SHA256


def test_aging_adds_a_fourth_channel_and_changes_no_crop(plan: StreamConfig) -> None:
    plain, aged = loaded(plan), loaded(replace(plan, aging=Aging(share=0.5)))
    assert aged.shape == (12, 16, 16, 4)
    np.testing.assert_array_equal(aged[..., :3], plain)
    draws = [
        draw_aging(Aging(share=0.5), seed=3, epoch=1, source="train-000000.tar", key=f"{number:05d}")
        for number in range(12)
    ]
    assert 0 < sum(draw is not None for draw in draws) < 12
    for square, draw in zip(aged, draws, strict=True):
        expected = np.zeros((16, 16), np.uint8) if draw is None else draw.apply(square[..., :3])
        np.testing.assert_array_equal(square[..., 3], expected)
    assert (loaded(replace(plan, aging=Aging(share=0.5)), epoch=2)[..., 3] != aged[..., 3]).any()


def test_a_resumed_stream_goes_on_with_the_same_aged_images(ray_cluster: None, plan: StreamConfig) -> None:
    plan = replace(plan, aging=Aging(share=0.7))
    whole = list(TrainingStream(plan, StreamPosition(), 5, task_cpus=0.5))
    rest = list(TrainingStream(plan, whole[1].after, 3, task_cpus=0.5))
    assert sum(int(batch.rgb[..., 3].any()) for batch in whole) > 0
    for before, after in zip(whole[2:], rest, strict=True):
        assert before.after == after.after
        np.testing.assert_array_equal(before.rgb, after.rgb)
