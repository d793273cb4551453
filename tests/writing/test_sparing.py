"""The output layer at marked tokens alone: the same logits, losses and gradients."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

import polyrank
from polyrank.client.comparing import texts
from polyrank.client.model import Workbench, load, logits, template
from polyrank.client.placing import place, trainable
from polyrank.client.sparing import spare
from polyrank.client.writing import at_marks, chosen
from polyrank.data.batches import Batch
from polyrank.experiment.setup import prepare
from polyrank.recipe.schema import Lora

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 32, "max_position_embeddings": 32, "pad_token_id": 0}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "GPT2": {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "OPT": {**SIZES, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "GPTNeoX": SIZES,
    "Bloom": {"vocab_size": 50, "hidden_size": 16, "n_layer": 2, "n_head": 2},
    "Gemma2": {**SIZES, "head_dim": 8, "num_key_value_heads": 1},  # caps its logits
    "Cohere": {**SIZES, "num_key_value_heads": 1},  # scales them
    "Qwen2": {**SIZES, "num_key_value_heads": 1},
    "Mixtral": {**SIZES, "num_key_value_heads": 1, "num_local_experts": 2},
    "Phi": SIZES,
}


def batch(rows: int = 3, length: int = 9) -> Batch:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 50, (rows, length), generator=draw)
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    marks = (torch.rand(rows, length, generator=draw) < 0.3) & mask.bool()
    nothing = torch.zeros(rows, dtype=torch.int64)
    return Batch(ids, mask, nothing, torch.arange(rows), marks)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_has_the_same_logits(kind: str) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**KINDS[kind])
    net = AutoModelForCausalLM.from_config(config).eval()
    one = batch()
    with torch.no_grad():
        whole = net(input_ids=one.input_ids, attention_mask=one.attention_mask).logits
        found = at_marks(net, one)
        again = net(input_ids=one.input_ids, attention_mask=one.attention_mask).logits
    assert found.shape == (int(one.counted[:, 1:].sum()), 50)
    torch.testing.assert_close(found, chosen(whole, one), rtol=1e-5, atol=1e-6)
    assert torch.equal(whole, again)


def loaded(llama_folder: Path) -> Workbench:
    return load(str(llama_folder), ("all",), Lora(targets=("all-linear",)), 0, "causal-lm")


def test_gradients_are_those_of_the_whole_output(llama_folder: Path) -> None:
    bench, one, found = loaded(llama_folder), batch(), []
    assert spare(bench)
    some = template(bench, 2)
    draw = torch.Generator().manual_seed(1)
    some = {
        n: replace(f, a=torch.randn(f.a.shape, generator=draw), b=f.b + 0.01)
        for n, f in some.items()
    }
    for sparing in (True, False):
        bench.sparing = sparing
        place(bench, some)
        factors, _ = trainable(bench)
        losses, counts = bench.objective.losses(logits(bench, texts(bench), one), one)
        torch.autograd.backward(losses.sum() / counts.sum())
        found.append([losses.detach(), *(p.grad for p in factors)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def none(net: Any) -> None:
    net.get_output_embeddings = lambda: None


def inner(net: Any) -> None:
    net.get_output_embeddings = lambda: net.model.layers[0].mlp


def later(net: Any) -> None:
    """An output that depends on how many tokens there are."""
    net.lm_head.register_forward_hook(lambda module, args, out: out * args[0].shape[1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [(none, "its output layer is called otherwise (AttributeError)"),
     (inner, "its output layer is called otherwise (RuntimeError)"), (later, "they differ by ")],
)  # fmt: skip
def test_a_model_that_cannot_is_computed_whole_and_says_so(
    change: Callable[[Any], None], reason: str, llama_folder: Path
) -> None:
    bench = loaded(llama_folder)
    change(bench.net)
    assert not spare(bench)
    assert bench.notes[-1].startswith(
        f"this model's logits are computed at all tokens, not only at those to be learned: {reason}"
    )
    one = batch()
    whole = bench.net(input_ids=one.input_ids, attention_mask=one.attention_mask).logits
    assert torch.equal(logits(bench, texts(bench), one), chosen(whole, one))


def test_a_run_spares(recipe: polyrank.Recipe) -> None:
    assert prepare(recipe).bench.sparing
