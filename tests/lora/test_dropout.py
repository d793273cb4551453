"""Dropout with cheap draws: its law, and attention as torch's."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig
from transformers import LlamaForSequenceClassification as Llama

from polyrank.lora.dropout import Dropout, attention, dropped, quicken
from polyrank.seeds import seeded

ELEMENTS = 400_000


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
def test_it_is_unbiased_and_drops_as_often_as_asked(p: float) -> None:
    with seeded(0, "dropout"):
        found = dropped(torch.ones(ELEMENTS), p, True)
    kept = found != 0
    sigma = (p * (1 - p) / ELEMENTS) ** 0.5
    assert abs(float((~kept).double().mean()) - p) < 5 * sigma + 2**-17
    assert abs(float(found.double().mean()) - 1) < 5 * sigma / (1 - p)
    assert found[kept].unique().numel() == 1


def test_neighbours_are_independent() -> None:
    with seeded(1, "dropout"):
        kept = (dropped(torch.ones(ELEMENTS), 0.5, True) != 0).double() - 0.5
    for lag in range(1, 9):  # four come from one draw
        assert abs(float((kept[lag:] * kept[:-lag]).mean())) < 5 * 0.25 / ELEMENTS**0.5


@given(st.lists(st.integers(0, 5), max_size=3), st.sampled_from([0.0, 1e-9, 0.3, 1.0]))
def test_any_shape_and_every_probability(shape: list[int], p: float) -> None:
    x = torch.ones(shape, requires_grad=True)
    out = dropped(x, p, True)
    assert out.shape == x.shape
    if p < 1e-6:
        assert torch.equal(out, x)
    if p == 1:
        assert not out.any()
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, out.detach())  # of x·m is m, and x is 1


def test_nothing_is_dropped_outside_of_training() -> None:
    x = torch.randn(3, 4)
    assert dropped(x, 0.5, False) is x
    assert Dropout(0.5).eval()(x) is x


def test_the_same_seed_draws_the_same() -> None:
    some = []
    for _ in range(2):
        with seeded(3, "dropout"):
            some.append(dropped(torch.ones(1001), 0.2, True))
    assert torch.equal(*some)


@pytest.mark.parametrize("mask", ["none", "bool", "float"])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_attention_is_torchs_where_next_to_nothing_is_dropped(
    mask: str, scaling: float | None
) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 8) for _ in range(3))
    allowed = torch.rand(2, 1, 5, 5) < 0.7
    allowed[..., 0] = True
    given_mask = {
        "none": None,
        "bool": allowed,
        "float": torch.zeros(2, 1, 5, 5).masked_fill(~allowed, float("-inf")),
    }[mask]
    module = nn.Module()
    module.is_causal = False  # type: ignore[assignment]
    found, _ = attention(module, q, k, v, given_mask, dropout=1e-9, scaling=scaling)
    wanted = scaled_dot_product_attention(q, k, v, given_mask, scale=scaling).transpose(1, 2)
    torch.testing.assert_close(found, wanted)
    other, _ = attention(module, q, k, v, given_mask, dropout=0.5, scaling=scaling)
    assert not torch.allclose(other, wanted)


@pytest.mark.parametrize("kind", ["causal", "fewer key heads"])
def test_what_it_does_not_know_goes_torchs_way(kind: str) -> None:
    torch.manual_seed(0)
    heads = 2 if kind == "fewer key heads" else 4
    q, k, v = torch.randn(2, 4, 5, 8), *(torch.randn(2, heads, 5, 8) for _ in range(2))
    module: Any = nn.Module()
    module.is_causal, module.num_key_value_groups = True, 4 // heads
    found, _ = attention(module, q, k, v, None, dropout=1e-12)
    repeated = (t.repeat_interleave(4 // heads, 1) for t in (k, v))
    wanted = scaled_dot_product_attention(q, *repeated, is_causal=True).transpose(1, 2)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_quick_models_logits_are_the_same_and_its_dropout_is_all_ours(kind: str) -> None:
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_labels": 3,
             "num_attention_heads": 4, "intermediate_size": 24, "pad_token_id": 0}  # fmt: skip
    torch.manual_seed(0)
    net: Any = (
        BertForSequenceClassification(BertConfig(**sizes))
        if kind == "bert"
        else Llama(LlamaConfig(**sizes, num_key_value_heads=2, attention_dropout=0.1))
    )
    net.eval()
    ids = torch.randint(1, 40, (3, 7))
    ids[0, 4:] = 0
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    before = net(**batch).logits
    quicken(net)
    assert torch.equal(net(**batch).logits, before)
    assert not any(type(m) is nn.Dropout for m in net.modules())
    if kind == "bert":
        with torch.autograd.profiler.profile() as told:
            net.train()(**batch)
        assert "aten::bernoulli_" not in {event.name for event in told.function_events}
