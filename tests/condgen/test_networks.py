"""The adversarial networks against their papers: sizes, what they see, and what pictures they take."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from condgen.families.cgan.config import CganConfig
from condgen.families.cgan.network import NoiseUNet
from condgen.families.cyclegan.networks import DiscoGenerator, EncoderDiscriminator, ResidualGenerator
from condgen.gan.config import AdversarialConfig
from condgen.gan.generator import Generator, dropout_with, translate
from condgen.gan.layers import InstanceNorm, initialize, pad_to
from condgen.gan.networks import PatchDiscriminator, SkipUNet
from condgen.noise import NoiseSource, SampleId

pytestmark = pytest.mark.usefixtures("seeded")

PAPER = AdversarialConfig(norm="batch", discriminator_norm="batch", upsampling="transposed", padding="zero")
CYCLE = AdversarialConfig(norm="instance", discriminator_norm="instance", upsampling="transposed", padding="reflect")


def small(**config: Any) -> AdversarialConfig:
    return AdversarialConfig(**{"width": 8, "discriminator_width": 8, "norm_groups": 4, "init_std": 0.2} | config)


def generators(config: AdversarialConfig) -> dict[str, Generator]:
    return {
        "unet": SkipUNet(config, 1, 2, depth=3, dropout=0.5),
        "resnet": ResidualGenerator(config, 1, 2, blocks=2),
        "encoder_decoder": DiscoGenerator(config, 1, 2, depth=3),
    }


GENERATORS = ("unet", "resnet", "encoder_decoder")
OPTIONS = [
    {"norm": norm, "upsampling": upsampling, "padding": padding}
    for norm in ("batch", "instance", "group", "none")
    for upsampling, padding in (("transposed", "zero"), ("resize", "reflect"))
]


def number(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("channels", "wanted"), [((3, 3), 54_413_955), ((1, 2), 54_409_858)])
def test_the_unet_has_the_papers_number_of_parameters(channels: tuple[int, int], wanted: int) -> None:
    with torch.device("meta"):
        assert number(SkipUNet(PAPER, *channels, depth=8, dropout=0.5)) == wanted


@pytest.mark.parametrize(("patch_px", "wanted"), [(1, 9_024), (16, 139_585), (70, 2_768_705), (286, 11_159_361)])
def test_the_patch_discriminators_have_the_papers_numbers_of_parameters(patch_px: int, wanted: int) -> None:
    with torch.device("meta"):
        assert number(PatchDiscriminator(PAPER, 6, patch_px)) == wanted


@pytest.mark.parametrize(("blocks", "wanted"), [(9, 11_378_179), (6, 7_837_699)])
def test_the_residual_generators_have_the_papers_numbers_of_parameters(blocks: int, wanted: int) -> None:
    with torch.device("meta"):
        assert number(ResidualGenerator(CYCLE, 3, 3, blocks=blocks)) == wanted


def test_cyclegans_discriminator_has_the_papers_number_of_parameters() -> None:
    with torch.device("meta"):
        assert number(PatchDiscriminator(CYCLE, 3, 70)) == 2_764_737


@pytest.mark.parametrize("patch_px", [1, 16, 34, 70, 142, 286])
def test_a_patch_is_exactly_as_large_as_its_name(patch_px: int) -> None:
    net = PatchDiscriminator(small(discriminator_norm="none", discriminator_width=1), 1, patch_px).double()
    image = torch.randn(1, 1, 2 * patch_px + 90, 2 * patch_px + 90, dtype=torch.float64, requires_grad=True)
    scores = net(image)
    scores[0, 0, scores.shape[-2] // 2, scores.shape[-1] // 2].backward()
    rows, columns = (image.grad[0, 0] != 0).nonzero().unbind(dim=1)
    for seen in (rows, columns):
        assert int(seen.max() - seen.min()) + 1 == patch_px
        assert int(seen.min()) > 0
        assert int(seen.max()) < image.shape[-1] - 1


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (1, 1), (5, 3)])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", GENERATORS)
def test_generators_take_any_size_and_stay_in_range(name: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    net = generators(small(**options))[name]
    y = net(torch.randn(2, 1, *size))
    assert y.shape == (2, 2, *size)
    assert float(y.detach().abs().max()) <= 1.0
    assert float(y.detach().std()) > 1e-4


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
@pytest.mark.parametrize("kind", [1, 16, 34, 70, 142, 286, "encoder"])
def test_discriminators_take_any_size(kind: Any, norm: Any) -> None:
    config = small(discriminator_norm=norm, discriminator_width=4)
    net = EncoderDiscriminator(config, 2) if kind == "encoder" else PatchDiscriminator(config, 2, kind)
    for size in ((1, 1), (16, 16), (33, 20)):
        scores = net(torch.randn(2, 2, *size))
        assert scores.shape[:2] == (2, 1)
        assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", GENERATORS)
def test_a_size_that_fits_is_not_padded(name: str) -> None:
    net = generators(small())[name].eval()
    image = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(net(image), net.decode(net.encode(image)))


@pytest.mark.parametrize("norm", ["instance", "group"])
@pytest.mark.parametrize("name", GENERATORS)
def test_a_image_is_the_same_in_any_batch_even_in_training(name: str, norm: str) -> None:
    net = generators(small(norm=norm))[name]
    net.dropout = 0.0
    image = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(net(image)[:1], net(image[:1]), rtol=1e-4, atol=1e-5)


def test_batch_norm_makes_it_depend_on_the_others() -> None:
    net = generators(small(norm="batch"))["resnet"]
    image = torch.randn(3, 1, 16, 16)
    assert float((net(image)[:1] - net(image[:1])).abs().max().detach()) > 1e-3


@pytest.mark.parametrize("num_samples", [1, 3])
def test_instance_norm_is_pytorchs_in_the_memory_format_of_its_input(num_samples: int) -> None:
    image = (5 + 3 * torch.randn(num_samples, 4, 6, 7)).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(num_samples, 4, 6, 7)
    values, gradients = [], []
    for norm in (InstanceNorm(4), nn.InstanceNorm2d(4)):
        x = image.clone().requires_grad_()
        y = norm(x)
        values.append(y)
        gradients += torch.autograd.grad((y * weight).sum(), x)
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    assert values[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (1, 1)])
def test_a_global_skip_begins_at_the_image_and_learns_a_change_of_it(size: tuple[int, int]) -> None:
    net = ResidualGenerator(small(), 3, 3, blocks=1, global_skip=True)
    initialize(net, 0.2)
    net.begin_at_identity()
    image = torch.rand(2, 3, *size) * 2 - 1
    y = net(image)
    torch.testing.assert_close(y, 0.99 * image, rtol=0.0, atol=1e-5)
    y.square().mean().backward()
    last = net.decoder[-1]
    assert float(last.weight.grad.abs().max()) > 0
    nn.init.normal_(last.weight, 0.0, 0.2)
    assert float((net(image / 2) - 0.99 * image / 2).detach().abs().mean()) > 1e-2
    assert float(net(image.sign()).detach().abs().max()) <= 1.0


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_weights_are_drawn_as_the_paper_says(spectral_norm: bool) -> None:
    config = small(discriminator_norm="batch", discriminator_width=32, spectral_norm=spectral_norm)
    net = PatchDiscriminator(config, 6, 70)
    initialize(net, 0.02)
    weights = [p.detach() for p in net.parameters() if p.ndim == 4]
    assert [float(w.std()) for w in weights[1:-1]] == pytest.approx([0.02] * 3, rel=0.03)
    assert max(abs(float(w.mean())) for w in weights) < 2e-3
    scales = torch.cat([m.weight.detach() for m in net.modules() if isinstance(m, nn.BatchNorm2d)])
    assert float(scales.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(scales.std()) == pytest.approx(0.02, rel=0.2)
    biases = [p.detach() for name, p in net.named_parameters() if name.endswith("bias")]
    assert max(float(b.abs().max()) for b in biases) == 0.0


def test_spectral_norm_bounds_every_layer() -> None:
    net = PatchDiscriminator(small(discriminator_norm="none", spectral_norm=True), 3, 16)
    for _ in range(30):  # power iterations
        net(torch.randn(1, 3, 16, 16))
    largest = [float(torch.linalg.matrix_norm(w.flatten(1).detach(), 2)) for w in conv_weights(net)]
    assert len(largest) == 3
    assert largest == pytest.approx([1.0] * 3, rel=0.02)


def conv_weights(net: nn.Module) -> list[Tensor]:
    return [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]


def test_padding_repeats_the_edge_up_to_the_multiple() -> None:
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    padded = pad_to(image, 4)
    assert padded.shape == (1, 1, 4, 4)
    assert padded[0, 0, 3].tolist() == [3, 4, 5, 5]
    assert pad_to(image, 4, 9).shape == (1, 1, 12, 12)
    assert pad_to(image, 1) is image


def test_dropout_is_in_the_decoders_first_three_layers() -> None:
    net = SkipUNet(small(), 1, 2, depth=5, dropout=0.25)
    assert net.dropout_shapes(net.encode(torch.randn(1, 1, 32, 32))) == [(64, 2, 2), (32, 4, 4), (16, 8, 8)]
    assert net.dropout_shapes(net.encode(torch.randn(1, 1, 64, 32))) == [(64, 4, 2), (32, 8, 4), (16, 16, 8)]


def test_a_dropped_share_is_what_was_asked_for_and_the_mean_is_kept() -> None:
    x = torch.ones(1, 64, 32, 32)
    dropped = dropout_with(x, 0.25, torch.rand(x.shape), training=False)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)
    assert torch.equal(dropout_with(x, 0.25, None, training=False), x)


def test_each_draw_has_masks_of_its_own_and_the_same_alone() -> None:
    net = SkipUNet(small(), 1, 2, depth=3, dropout=0.5).eval()
    ids = [SampleId("a.tar", str(i)) for i in range(2)]
    image = torch.randn(2, 1, 20, 13)
    with torch.no_grad():
        draws = translate(net, image, NoiseSource(0, ids, range(3)))
        alone = translate(net, image, NoiseSource(0, ids, [2]))
    assert draws.shape == (2, 3, 2, 20, 13)
    assert torch.equal(alone[:, 0], draws[:, 2])
    assert float((draws[:, 0] - draws[:, 1]).abs().mean()) > 1e-3


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
def test_the_noise_unet_is_moved_by_its_noise(norm: Any, upsampling: Any) -> None:
    config = CganConfig(width=8, norm_groups=4, multipliers=(1, 2), norm=norm, upsampling=upsampling, noise_dim=4)
    net = NoiseUNet(config)
    image = torch.randn(3, 1, 9, 14)
    first, second = net(image, torch.randn(3, 4)), net(image, torch.randn(3, 4))
    assert first.shape == (3, 2, 9, 14)
    assert float((first - second).abs().mean().detach()) > 1e-3
