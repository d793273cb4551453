"""Kept activations: the same logits and gradients as the whole model, or one clear refusal."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from polyrank.client import activations, prefix
from polyrank.client.classifying import Classifying
from polyrank.client.cut import all_blocks, cut
from polyrank.client.first_token import shorten
from polyrank.client.model import Workbench, fold, load, template
from polyrank.client.placing import Model, dense, place, place_all, trainable
from polyrank.client.prefix import Cached, cached
from polyrank.data.batches import Batch, Tokens, batches, in_order, merged
from polyrank.errors import RecipeError
from polyrank.lora.factor import Factor
from polyrank.lora.head import attach as attach_head
from polyrank.lora.layer import attach
from polyrank.lora.targets import find
from polyrank.recipe.schema import Lora
from polyrank.seeds import derive

WIDTH, LAYERS = 16, 3
SIZES = {"vocab_size": 40, "num_labels": 3}
BERT = {
    "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
    "intermediate_size": 24, "initializer_range": 0.3, **SIZES,
}  # fmt: skip
HEADS = ("classifier", "pre_classifier", "score")


def bert(**changes: Any) -> nn.Module:
    return BertForSequenceClassification(BertConfig(**(BERT | changes)))


def roberta() -> nn.Module:
    return RobertaForSequenceClassification(RobertaConfig(**BERT))


def distilbert(**changes: Any) -> nn.Module:
    config = DistilBertConfig(
        dim=WIDTH, n_layers=LAYERS, n_heads=2, hidden_dim=24, initializer_range=0.3,
        **SIZES, **changes,
    )  # fmt: skip
    return DistilBertForSequenceClassification(config)


def gpt2() -> nn.Module:
    config = GPT2Config(n_embd=WIDTH, n_layer=LAYERS, n_head=2, pad_token_id=0, **SIZES)
    return GPT2ForSequenceClassification(config)


class MeanOfTokens(BertForSequenceClassification):
    """A classifier that reads all tokens."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert.pooler.forward = lambda states: states.mean(dim=1)


def bench_of(make: Callable[[], nn.Module], *targets: str) -> Workbench:
    torch.manual_seed(0)
    net = make()
    net.train(False).requires_grad_(False)
    head = tuple(n for n, _ in net.named_parameters() if n.split(".")[0] in HEADS)
    layers = {n: attach(m) for n, m in find(net, targets, HEADS).items()}
    return Workbench(net, None, layers, head, True, "tiny", Classifying(("a", "b")))


def tokens_of(count: int = 30, seed: int = 0) -> Tokens:
    """Texts of 1 to 9 tokens."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 10, (count,), generator=draw)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    ids = torch.randint(1, 40, (int(starts[-1]),), generator=draw)
    return Tokens(ids, torch.randint(0, 3, (count,), generator=draw), starts, pad=0)


def some_factors(bench: Workbench, rank: int = 2) -> dict[str, Factor]:
    draw = torch.Generator().manual_seed(1)
    return {
        n: Factor(*(torch.randn(t.shape, generator=draw) / 3 for t in (f.a, f.b)))
        for n, f in template(bench, rank).items()
    }


def whole(bench: Workbench, batch: Batch) -> torch.Tensor:
    return bench.net(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits


def gradients(bench: Workbench, logits: torch.Tensor, batch: Batch) -> list[torch.Tensor]:
    parameters = [p for group in trainable(bench) for p in group]
    return list(torch.autograd.grad(cross_entropy(logits, batch.labels), parameters))


TOP = ("2.intermediate.dense", "2.output.dense", "pooler.dense")
CUTS = [
    pytest.param("block", bert, ("2.attention.self.query", "2.output.dense"), id="bert-last"),
    pytest.param("block", bert, ("layer.1.attention.self.value",), id="bert-middle"),
    pytest.param("block", bert, ("pooler.dense",), id="bert-pooler"),
    pytest.param("block", roberta, ("2.attention.self.query",), id="roberta"),
    pytest.param("block", distilbert, ("2.attention.v_lin",), id="distilbert"),
    pytest.param("block", gpt2, ("h.1.attn.c_attn", "h.2.mlp.c_proj"), id="gpt2"),
    pytest.param("first-token", bert, TOP, id="first-bert"),
    pytest.param("first-token", bert, ("pooler.dense",), id="first-pooler"),
    pytest.param("first-token", roberta, TOP[:2], id="first-roberta"),
    pytest.param("first-token", distilbert, ("2.ffn.lin1", "2.ffn.lin2"), id="first-distilbert"),
]


@pytest.mark.parametrize(("kind", "make", "targets"), CUTS)
def test_logits_and_gradients_are_the_whole_models(kind, make, targets):
    bench, tokens = bench_of(make, *targets), tokens_of()
    forward = cached(bench, kind, tokens)
    place(bench, some_factors(bench))
    for batch in batches(tokens, range(3, 30), 8, derive(0, "batches")):
        trainable(bench)
        expected, found = whole(bench, batch), forward(batch)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        for one, other in zip(
            gradients(bench, found, batch), gradients(bench, expected, batch), strict=True
        ):
            assert other.any()
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["block", "first-token"])
def test_clients_at_once_start_from_kept_activations_too(kind):
    bench, tokens = bench_of(bert, *TOP), tokens_of()
    bench.heads = {"classifier": attach_head(bench.net.classifier)}
    found = cached(bench, kind, tokens)
    head = dense(bench)
    models = [Model(some_factors(bench, r), {n: t + r for n, t in head.items()}) for r in (1, 2, 2)]
    place_all(bench, models)
    batch, _ = merged(list(in_order(tokens, 10)), tokens.pad)
    own = [p for i in range(3) for part in trainable(bench, client=i) for p in part]
    some = [
        torch.autograd.grad(f(batch).square().sum(), own)
        for f in (found, lambda b: whole(bench, b))
    ]
    torch.testing.assert_close(found(batch), whole(bench, batch), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(some[0], some[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["block", "first-token"])
def test_folds_and_heads_that_come_later_count(kind):
    bench, tokens = bench_of(bert, *TOP), tokens_of()
    forward = cached(bench, kind, tokens)
    (batch,) = in_order(tokens, 30)
    before = whole(bench, batch)
    fold(bench, {n: f.delta for n, f in some_factors(bench).items()})
    place(bench, {}, {n: bench.net.get_parameter(n) + 1 for n in bench.head})
    after = whole(bench, batch)
    assert not torch.allclose(before, after, atol=1e-2)
    torch.testing.assert_close(forward(batch), after, rtol=1e-4, atol=1e-5)


def test_train_and_test_texts_are_kept_side_by_side():
    bench = bench_of(bert, *TOP)
    one, other = tokens_of(12), tokens_of(20, seed=5)
    first, second = cached(bench, "first-token", one), cached(bench, "first-token", other)
    for forward, tokens in ((first, one), (second, other), (first, one)):
        (batch,) = in_order(tokens, 20)
        torch.testing.assert_close(forward(batch), whole(bench, batch), rtol=1e-4, atol=1e-5)


def test_dropout_is_on_above_the_cut_and_off_below():
    changes = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    bench = bench_of(lambda: bert(**changes, classifier_dropout=0.0), "pooler.dense")
    tokens = tokens_of()
    above = cached(bench, "block", tokens)  # below it: all that has dropout, but the classifier's
    partly = cached(bench, "first-token", tokens)  # above it: the last block's second half
    (batch,) = in_order(tokens, 30)
    quiet = whole(bench, batch)
    bench.net.train()
    torch.testing.assert_close(above(batch), quiet, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(partly(batch), quiet, atol=1e-2)
    bench.net.train(False)
    torch.testing.assert_close(partly(batch), quiet, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["block", "first-token"])
def test_the_whole_model_stays_as_it_is(kind):
    bench, tokens = bench_of(bert, *TOP), tokens_of()
    (batch,) = in_order(tokens, 30)
    before = whole(bench, batch)
    modules = dict(bench.net.named_modules())
    tensors = {n: t.clone() for n, t in bench.net.state_dict().items()}
    forward = cached(bench, kind, tokens)
    place(bench, some_factors(bench))
    forward(batch)
    place(bench, {})
    now = dict(bench.net.named_modules())
    assert list(now) == list(modules)
    assert all(now[n] is module for n, module in modules.items() if ".lora." not in n)
    assert all(not module._forward_hooks for n, module in modules.items() if n not in bench.layers)
    state = bench.net.state_dict()
    assert list(state) == list(tensors)
    assert all(torch.equal(state[n], t) for n, t in tensors.items())
    assert torch.equal(whole(bench, batch), before)


@pytest.mark.parametrize(
    ("kind", "make", "targets", "problem"),
    [
        ("block", bert, ["query"], r"the first block is adapted, so no block is frozen; use off"),
        ("first-token", bert, ["2.attention.output.dense"],
         r"first-token would freeze 'bert.encoder.layer.2.attention.output.dense', which is "
         r"trained; use block or off"),
        ("first-token", bert, ["layer.1.output.dense"], r"would freeze 'bert.encoder.layer.1"),
        ("first-token", distilbert, ["2.attention.out_lin"], r"would freeze 'distilbert"),
        ("first-token", gpt2, ["2.mlp.c_proj"],
         r"knows the blocks of BERT and DistilBERT, not GPT2Block; use block or off"),
        ("first-token", lambda: MeanOfTokens(BertConfig(**BERT)), ["2.output.dense"],
         r"first-token does not give this model's logits \(difference 0?\.?\d+ of the largest\); "
         r"use block or off"),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_is_one_line(kind, make, targets, problem):
    bench = bench_of(make, *targets)
    with pytest.raises(RecipeError, match=problem) as caught:
        cached(bench, kind, tokens_of())
    assert caught.value.key == "cache"
    assert "\n" not in str(caught.value)


def test_a_model_without_blocks_is_refused():
    bench = bench_of(bert, "2.output.dense")
    bench.net.config.num_hidden_layers = 7
    with pytest.raises(RecipeError, match=r"no list of blocks in BertForSequenceClass\w+; use off"):
        cut(bench, "block")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever activations are computed."""
    calls, compute = [], prefix._computed
    monkeypatch.setattr(
        prefix, "_computed", lambda *arguments: calls.append(1) or compute(*arguments)
    )
    return calls


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize("kind", ["block", "first-token"])
def test_a_later_run_reads_what_the_first_one_wrote(kind, tmp_path, computed):
    tokens = tokens_of()
    first = cached(bench_of(bert, *TOP), kind, tokens, tmp_path)
    bench = bench_of(bert, *TOP)
    for name in bench.head:  # another head, a fold in an adapted layer: below the cut all is equal
        bench.net.get_parameter(name).data.add_(1)
    fold(bench, {n: f.delta for n, f in some_factors(bench).items()})
    second = cached(bench, kind, tokens, tmp_path)
    assert len(computed) == 1
    assert only_file(tmp_path).suffix == ".safetensors"
    assert torch.equal(first.states, second.states)
    (batch,) = in_order(tokens, 30)
    torch.testing.assert_close(second(batch), whole(bench, batch), rtol=1e-4, atol=1e-5)


def test_other_weights_texts_and_cuts_have_files_of_their_own(tmp_path, computed):
    def keep(bench: Workbench, kind: str = "block", tokens: Tokens | None = None) -> Cached:
        return cached(bench, kind, tokens or tokens_of(), tmp_path)

    keep(bench_of(bert, *TOP))
    keep(bench_of(bert, *TOP), "first-token")
    keep(bench_of(bert, *TOP), tokens=tokens_of(seed=2))
    keep(bench_of(bert, "layer.1.output.dense"))
    keep(bench_of(lambda: bert(hidden_act="relu"), *TOP))
    moved = bench_of(bert, *TOP)
    moved.net.get_parameter("bert.encoder.layer.0.output.dense.bias").data[3] += 1e-3
    keep(moved)
    assert len(computed) == len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("damage", ["cut short", "a bit flipped", "emptied", "another file"])
def test_a_damaged_file_is_computed_again(damage, tmp_path, computed):
    first = cached(bench_of(bert, *TOP), "block", tokens_of(), tmp_path)
    path = only_file(tmp_path)
    written = path.read_bytes()
    broken = {
        "cut short": written[:-8],
        "a bit flipped": written[:-1] + bytes([written[-1] ^ 1]),
        "emptied": b"",
        "another file": b"\x02\0\0\0\0\0\0\0{}",
    }
    path.write_bytes(broken[damage])
    again = cached(bench_of(bert, *TOP), "block", tokens_of(), tmp_path)
    assert len(computed) == 2
    assert torch.equal(first.states, again.states)
    assert path.read_bytes() == written


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    forward = cached(bench_of(bert, *TOP), "block", tokens_of(), tmp_path / "file")
    assert forward.states.shape == (len(tokens_of().ids), WIDTH)


def test_activations_lie_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert activations.folder() == tmp_path / "polyrank" / "activations"


def test_a_trained_llama_is_cut(llama_folder):
    bench = load(str(llama_folder), ["a", "b"], Lora(targets=("4.mlp.down_proj",)), seed=0)
    tokens = replace(tokens_of(), pad=bench.tokenizer.pad_token_id)
    forward = cached(bench, "block", tokens)
    place(bench, some_factors(bench))
    (batch,) = in_order(tokens, 30)
    torch.testing.assert_close(forward(batch), whole(bench, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "targets"),
    [
        (bert, ("0.attention.self.query", "2.attention.self.value", "2.output.dense")),
        (roberta, ("1.attention.self.query", "2.intermediate.dense")),
        (distilbert, ("0.attention.q_lin", "2.attention.out_lin", "2.ffn.lin1")),
    ],
)
def test_the_last_feed_forward_for_one_token_gives_the_same_logits_and_gradients(make, targets):
    bench, tokens = bench_of(make, *targets), tokens_of()
    place(bench, some_factors(bench))
    trainable(bench)
    some = list(batches(tokens, range(3, 30), 8, derive(0, "batches")))
    expected = [whole(bench, batch) for batch in some]
    wanted = [gradients(bench, logits, b) for logits, b in zip(expected, some, strict=True)]
    assert shorten(bench)
    last, seen = all_blocks(bench.net)[1][-1], []
    last.register_forward_hook(lambda module, args, out: seen.append(out))
    place(bench, some_factors(bench))
    trainable(bench)
    for batch, logits, theirs in zip(some, expected, wanted, strict=True):
        found = whole(bench, batch)
        out = seen.pop()
        assert (out[0] if isinstance(out, tuple) else out).shape[1] == 1
        torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-5)
        for one, other in zip(gradients(bench, found, batch), theirs, strict=True):
            assert other.any()
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "target"),
    [(gpt2, "c_attn"), (lambda: MeanOfTokens(BertConfig(**BERT)), "attention.self.query")],
)
def test_a_model_that_reads_other_tokens_is_left_as_it_is(make, target):
    bench, tokens = bench_of(make, target), tokens_of()
    place(bench, some_factors(bench))
    (batch,) = in_order(tokens, 8, torch.arange(8))
    expected = whole(bench, batch)
    assert not shorten(bench)
    place(bench, some_factors(bench))
    assert torch.equal(whole(bench, batch), expected)
