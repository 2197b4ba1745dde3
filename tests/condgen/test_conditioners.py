from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from condgen.base import Condition, SampleOptions
from condgen.errors import UnsupportedError
from condgen.families import build
from condgen.families.diffusion.config import DiffusionConfig
from condgen.families.diffusion.model import Diffusion
from condgen.nn.conditioners import ConditionerSet, FrozenText, LabelEmbedding, TextEncoder, make_conditioners
from condgen.nn.transformer import Cache, TransformerBlock, grid_positions
from tests.condgen.models import TINY, color_batch, source

KEPT = torch.zeros(3, dtype=torch.bool)
TEXT = Condition(text=torch.tensor([[1, 2, 0, 0], [2, 1, 0, 0], [3, 4, 4, 0]]))


def text_encoder(kind: Any, seed: int = 0) -> TextEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TextEncoder(6, 16, 5, kind)


def test_a_label_is_its_own_vector_and_null_is_another() -> None:
    encoder = LabelEmbedding(3, 8)
    vectors = encoder(Condition(label=torch.tensor([0, 2, -1])), KEPT).vector
    dropped = encoder(Condition(label=torch.tensor([0, 1, 2])), ~KEPT).vector
    assert torch.equal(vectors[2], dropped[0])
    assert torch.equal(dropped[0], dropped[2])
    assert not torch.equal(vectors[0], vectors[1])
    assert torch.equal(encoder(TEXT, KEPT).vector, dropped)  # no label at all
    with pytest.raises(UnsupportedError, match="label from 0 to 3"):
        encoder(Condition(label=torch.tensor([0, 3, 0])), KEPT)


@pytest.mark.parametrize("kind", ["bag", "transformer"])
def test_padding_changes_nothing_of_a_text(kind: Any) -> None:
    encoder = text_encoder(kind)
    short = encoder(Condition(text=TEXT.text[:, :3]), KEPT).vector
    torch.testing.assert_close(encoder(TEXT, KEPT).vector, short)


def test_a_transformer_knows_the_order_of_words_and_a_bag_does_not() -> None:
    bag, ordered = (text_encoder(kind)(TEXT, KEPT).vector.detach() for kind in ("bag", "transformer"))
    torch.testing.assert_close(bag[0], bag[1])
    assert float((ordered[0] - ordered[1]).abs().mean()) > 1e-3
    assert float((bag[0] - bag[2]).abs().mean()) > 0.01


@pytest.mark.parametrize("kind", ["bag", "transformer"])
def test_no_words_dropped_words_and_no_text_are_all_null(kind: Any) -> None:
    encoder = text_encoder(kind)
    null = encoder(TEXT, ~KEPT).vector.detach()
    torch.testing.assert_close(encoder(Condition(text=torch.zeros(3, 4, dtype=torch.int64)), KEPT).vector, null)
    torch.testing.assert_close(encoder(Condition(label=torch.zeros(3, dtype=torch.int64)), KEPT).vector, null)
    torch.testing.assert_close(null[0], null[1])
    assert float((encoder(TEXT, KEPT).vector.detach() - null).abs().mean()) > 0.01


@pytest.mark.parametrize("kind", ["bag", "transformer"])
def test_a_text_that_does_not_fit_is_refused(kind: Any) -> None:
    with pytest.raises(UnsupportedError, match="token from 6 to 6"):
        text_encoder(kind)(Condition(text=torch.full((3, 2), 6)), KEPT)
    with pytest.raises(UnsupportedError, match="7 tokens"):
        text_encoder(kind)(Condition(text=torch.ones(3, 7, dtype=torch.int64)), KEPT)


def test_a_set_adds_vectors_and_strings_tokens_together() -> None:
    both = Condition(text=TEXT.text, label=torch.tensor([0, 1, 2]))
    whole = make_conditioners(16, num_labels=3, text_vocabulary=6, text_length=5)
    label, text = whole.parts["label"](both, KEPT), whole.parts["text"](both, KEPT)
    encoding = whole(both, KEPT)
    torch.testing.assert_close(encoding.vector, label.vector + text.vector)
    assert encoding.tokens.shape == (3, 5, 16)
    assert encoding.mask.tolist()[2] == [True, True, True, True, False]
    with pytest.raises(UnsupportedError, match="conditioned on a label"):
        whole(TEXT, KEPT)
    empty = make_conditioners(16)(both, KEPT)
    assert (empty.vector.abs().sum(), empty.tokens.shape) == (0, (3, 0, 16))


def test_only_null_parts_are_dropped() -> None:
    both = Condition(text=TEXT.text, label=torch.tensor([0, 1, 2]))
    whole = make_conditioners(16, num_labels=3, text_vocabulary=6, text_length=5, null_parts=["text"])
    label, text = whole.parts["label"](both, KEPT), whole.parts["text"](both, ~KEPT)
    torch.testing.assert_close(whole(both, ~KEPT).vector, label.vector + text.vector)


def test_a_pretrained_encoder_takes_the_place_of_one_that_is_trained_along() -> None:
    torch.manual_seed(0)
    words = nn.Embedding(6, 12)
    config = DiffusionConfig(
        condition_channels=0,
        size_px=8,
        width=8,
        multipliers=(1, 2),
        norm_groups=4,
        out_stride=1,
        text_vocabulary=6,
        steps=2,
    )
    frozen = FrozenText(words, 12, config.embedding_width)
    model = Diffusion(config, ConditionerSet([frozen], config.embedding_width, config.null_parts)).eval()
    y = model.sample(TEXT, source(3), SampleOptions(guidance_scale=2.0))
    assert y.shape == (3, 1, 2, 8, 8)
    assert float((y - model.sample(TEXT, source(3), SampleOptions(guidance_scale=0.0))).abs().mean()) > 1e-4
    assert not any(p.requires_grad for p in words.parameters())
    assert all(p.requires_grad for p in frozen.project.parameters())


def test_a_prefix_and_a_cache_give_what_one_pass_gives() -> None:
    torch.manual_seed(0)
    block, num_prefix, length, draws = TransformerBlock(16, 4).eval(), 3, 5, 2
    prefix, tokens = torch.randn(2, num_prefix, 16), torch.randn(2, draws, length, 16)
    present = torch.tensor([[True, True, True], [True, False, True]])
    after, known = block.with_keys(prefix, present[:, None, None])
    cache = Cache.empty(known, draws, length)
    steps = torch.stack([block.step(tokens[:, :, i], cache, present, i) for i in range(length)], dim=2)
    mask = torch.ones(num_prefix + length, num_prefix + length, dtype=torch.bool).tril()
    mask[:num_prefix, :num_prefix] = True
    for k in range(draws):
        full = mask & torch.cat([present, torch.ones(2, length, dtype=torch.bool)], dim=1)[:, None]
        whole = block(torch.cat([prefix, tokens[:, k]], dim=1), full[:, None])
        torch.testing.assert_close(steps[:, k], whole[:, num_prefix:], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(after, whole[:, :num_prefix], atol=1e-5, rtol=1e-5)


def test_positions_of_two_grids_agree_where_their_cells_do() -> None:
    fine, coarse = (grid_positions(n, n, s, 16, torch.device("cpu")) for n, s in ((6, 2), (2, 6)))
    torch.testing.assert_close(fine.view(6, 6, 16)[1, 4], coarse.view(2, 2, 16)[0, 1])
    distance = torch.cdist(fine, fine) + torch.eye(36) * 9
    assert float(distance.min()) > 0.1


LATENT: dict[str, dict[str, Any]] = {
    "diffusion": {**TINY, "steps": 2, "condition_dropout": 0.5, "guidance_scale": 2.0},
    "cvae": {**TINY, "prior": "learned", "variance": "pixel"},
    "autoregressive": {"width": 16, "heads": 2, "layers": 2, "out_stride": 4},
}


@pytest.mark.parametrize("family", LATENT)
def test_families_train_and_draw_in_bf16(family: str) -> None:
    torch.manual_seed(0)
    model, batch = build(family, {**LATENT[family], "num_labels": 3, "text_vocabulary": 5}), color_batch(3, size=8)
    batch = replace(batch, condition=replace(batch.condition, label=torch.arange(3), text=TEXT.text))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = torch.stack([term.float() for term in model(batch).values()]).sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        y = model.eval().sample(batch.condition, source(3, 2), SampleOptions())
    assert y.dtype == torch.float32
    assert float((y - model.sample(batch.condition, source(3, 2), SampleOptions())).abs().mean()) < 0.05
