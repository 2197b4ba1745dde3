from dataclasses import replace

import torch

from condgen.worlds.two_sets import COLORS_A, COLORS_B, draw_discs, kinds, mode_map, render


def test_a_image_tells_its_kind_in_its_own_set_and_none_in_the_other() -> None:
    discs = draw_discs(300, torch.Generator().manual_seed(0))
    for colors, other in ((COLORS_A, COLORS_B), (COLORS_B, COLORS_A)):
        assert torch.equal(kinds(render(discs, colors), colors), discs.kind)
        assert bool((kinds(render(discs, colors), other) == -1).all())


def test_a_image_of_no_disc_on_black_has_no_kind() -> None:
    pictures = render(draw_discs(300, torch.Generator().manual_seed(0)), COLORS_B)
    grey = torch.full((300, 1, 1, 1), 0.5)
    inverted = pictures.flip(dims=(1,)).neg()
    for wrong in (torch.where(pictures > 0, pictures, grey), inverted, 0 * pictures):
        assert bool((kinds(wrong, COLORS_B) == -1).all())


def test_a_wrong_permutation_is_seen_in_the_map_and_in_the_error() -> None:
    discs = draw_discs(300, torch.Generator().manual_seed(0))
    found = mode_map(discs.kind, (discs.kind + 1) % 3)
    assert found.one_to_one
    assert found.to == (1, 2, 0)
    assert not mode_map(discs.kind, torch.zeros_like(discs.kind)).one_to_one
    wrong = render(replace(discs, kind=(discs.kind + 1) % 3), COLORS_A)
    assert float((wrong - render(discs, COLORS_A)).abs().mean()) > 0.3
