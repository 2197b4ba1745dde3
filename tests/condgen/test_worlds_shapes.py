"""World shapes: pictures are of their kind, texts say it, and the judge tells kinds that it has learned."""

import pytest
import torch

from condgen.worlds.shapes import (
    COLORS,
    NUM_KINDS,
    SIZE_PX,
    TEXT_LENGTH,
    VOCABULARY,
    captions,
    color_captions,
    draw_shapes,
    foreground,
    train_judge,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_image_has_its_kinds_color_where_its_shape_is() -> None:
    shapes = draw_shapes(64, generator())
    assert shapes.image.shape == (64, 3, SIZE_PX, SIZE_PX)
    assert float(shapes.image.abs().max()) < 1.2  # noise goes beyond
    inside = shapes.cover > 0.99
    colors = torch.tensor(list(COLORS.values()))[shapes.kind % len(COLORS)]
    for picture, color, where in zip(shapes.image, colors, inside, strict=True):
        assert torch.allclose(picture[:, where].mean(dim=1), color, atol=0.05)
    assert bool((foreground(shapes.image) == (shapes.cover > 0.5)).float().mean() > 0.97)


@pytest.mark.slow
def test_all_kinds_occur_alike_and_the_same_generator_draws_the_same() -> None:
    counts = torch.bincount(draw_shapes(8000, generator()).kind, minlength=NUM_KINDS)
    assert counts.min() > 8000 / NUM_KINDS * 0.8
    assert torch.equal(draw_shapes(5, generator(1)).image, draw_shapes(5, generator(1)).image)


def test_texts_tell_kinds_apart_and_those_of_color_only_colors() -> None:
    kind = torch.arange(NUM_KINDS)
    whole = captions(kind, generator())
    assert whole.shape == (NUM_KINDS, TEXT_LENGTH)
    assert int(whole.max()) < VOCABULARY
    assert len({frozenset(text) for text in whole.tolist()}) == NUM_KINDS
    of_color = []
    for color in range(len(COLORS)):
        texts = color_captions(kind[kind % len(COLORS) == color].repeat(20), generator())
        of_color.append({frozenset(text) - {0} for text in texts.tolist()})
    for one in range(len(COLORS)):
        for other in range(one):
            assert not of_color[one] & of_color[other]


@pytest.mark.slow
def test_the_judge_learns_and_judges_any_number_of_dimensions() -> None:
    judge = train_judge(steps=60)
    shapes = draw_shapes(256, generator(5))
    assert float((judge.kinds(shapes.image) == shapes.kind).float().mean()) > 0.5
    assert judge.kinds(shapes.image.unflatten(0, (64, 4))).shape == (64, 4)
