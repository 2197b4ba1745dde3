import torch

from condgen.color.uniform_bins import UniformBins
from condgen.worlds.facades import CLASS_COLORS, CLASSES, SIZE_PX, Facades, draw_facades, edges


def facades(count: int = 64, seed: int = 1) -> Facades:
    return draw_facades(count, torch.Generator().manual_seed(seed))


def test_samples_depend_on_the_generator_alone() -> None:
    made, again, other = facades(4), facades(4), facades(4, seed=2)
    assert torch.equal(made.photo, again.photo)
    assert torch.equal(made.labels, again.labels)
    assert not torch.equal(made.labels, other.labels)
    assert made.photo.shape == (4, 3, SIZE_PX, SIZE_PX)
    assert made.labels.shape == (4, SIZE_PX, SIZE_PX)
    assert made.depth.shape == (4, 1, SIZE_PX, SIZE_PX)
    for picture in (made.photo, made.depth, made.layout):
        assert picture.dtype == torch.float32
        assert float(picture.abs().max()) <= 1


def test_every_class_occurs_and_the_layout_tells_it() -> None:
    made = facades()
    shares = torch.bincount(made.labels.flatten(), minlength=len(CLASSES)) / made.labels.numel()
    assert len(shares) == len(CLASSES)
    assert float(shares.min()) > 0.005
    assert float(shares.max()) < 0.6
    colors = torch.tensor(CLASS_COLORS).float() / 127.5 - 1
    apart = (made.layout[:8, None] - colors[:, :, None, None]).abs().sum(dim=2)
    assert torch.equal(apart.argmin(dim=1), made.labels[:8])


def test_the_layout_does_not_tell_the_materials() -> None:
    made = facades()
    pairs = list(zip(made.photo, made.labels, strict=True))
    walls = torch.stack([photo[:, labels == CLASSES.index("wall")].mean(dim=1) for photo, labels in pairs])
    assert float(walls.std(dim=0).min()) > 0.15
    skies = [photo[:, labels == CLASSES.index("sky")].std(dim=1).mean() for photo, labels in pairs]
    noise = torch.stack(skies)  # one colour a picture, and noise of 0.02
    assert float(noise.min()) > 0.015
    assert float(noise.max()) < 0.025


def test_windows_are_further_than_the_wall_and_sills_nearer() -> None:
    made = facades(16)
    depth = {name: made.depth[:, 0][made.labels == number].unique() for number, name in enumerate(CLASSES)}
    assert all(len(values) == 1 for values in depth.values())
    assert float(depth["sky"]) > float(depth["window"]) > float(depth["wall"]) > float(depth["sill"])


def test_edges_are_lines_where_the_luma_changes() -> None:
    assert torch.equal(edges(torch.full((1, 3, 8, 8), 0.3)), torch.full((1, 1, 8, 8), -1.0))
    step = torch.full((1, 3, 8, 8), -0.5)
    step[..., 4:] = 0.5
    lines = edges(step)[0, 0] > 0
    assert lines.any(dim=0).tolist() == [False, False, False, True, True, False, False, False]
    assert lines[:, 3:5].all()
    share = (edges(facades(16).photo) > 0).float().mean()
    assert 0.05 < float(share) < 0.5


def test_labels_as_grey_levels_of_eight_bits_are_the_bins_of_a_classifier() -> None:
    labels = facades(4).labels
    grey = (labels[:, None].float() * 255 / (len(CLASSES) - 1)).round().byte()  # as a PNG holds them
    assert torch.equal(UniformBins(len(CLASSES)).nearest(grey.float() / 127.5 - 1), labels)
