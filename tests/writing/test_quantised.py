"""Bases in 8 and 4 bits: the same model as its weights come back, folds beside it, every round."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import Tensor

import polyrank
from polyrank.adapters.exporting import Asked, export
from polyrank.algorithms import names
from polyrank.client.memory import profile, weights
from polyrank.client.model import Workbench, fold, load, stored_transposed, template
from polyrank.client.placing import place, placed, trainable
from polyrank.client.quantised import quantised
from polyrank.errors import RecipeError
from polyrank.experiment import single
from polyrank.experiment.ready import prepared
from polyrank.experiment.setup import Setup, prepare
from polyrank.experiment.trial import trial
from polyrank.lora import peft
from polyrank.lora.factor import Adapter, Factor
from polyrank.lora.update import Update
from polyrank.recipe.schema import Engine, Lora
from tests.writing.conftest import made
from tests.writing.test_federated import changed, under

Bits = Literal["int8", "int4"]
BITS: tuple[Bits, ...] = ("int8", "int4")
ALL = Lora(targets=("all-linear",))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports take longer than these runs."""
    monkeypatch.setattr(single.page, "write", lambda path, runs: path.write_text("a report"))


def opened(folder: Path, base: Literal["full", "int8", "int4"], lora: Lora = ALL) -> Workbench:
    return load(str(folder), ["any"], lora, 0, "causal-lm", Engine(base=base))


def back(module: torch.nn.Module) -> Tensor:
    """A layer's weight as it comes back from its bits."""
    weight = module.weight
    if hasattr(weight, "quant_state"):
        return dequantize_4bit(weight.data, weight.quant_state).float()
    scale = module.state.SCB if module.state.SCB is not None else weight.SCB
    return weight.data.float() * scale[:, None] / 127


def twins(folder: Path, base: Bits) -> tuple[Workbench, Workbench]:
    """A quantised model, and one in float32 with the weights that come back."""
    bench, full = opened(folder, base), opened(folder, "full")
    assert {id(m) for m in quantised(bench.net)} == {
        id(bench.net.get_submodule(n)) for n in bench.layers
    }
    for name in bench.layers:
        full.net.get_submodule(name).weight.data.copy_(back(bench.net.get_submodule(name)))
    return bench, full


def some(bench: Workbench, rank: int) -> dict[str, Factor]:
    draw = torch.Generator().manual_seed(rank)
    return {
        n: Factor(*(torch.randn(t.shape, generator=draw) / 16 for t in (f.a, f.b)), 2.0)
        for n, f in template(bench, rank).items()
    }


def answers(bench: Workbench) -> Tensor:
    bench.net.eval()
    ids = torch.arange(40).view(2, 20) * 7 % 500
    return bench.net(input_ids=ids).logits


@pytest.mark.parametrize("base", BITS)
@pytest.mark.parametrize("dense", [True, False])
def test_a_fold_is_beside_what_comes_back_and_goes_without_a_trace(
    llama_folder: Path, base: Bits, dense: bool
) -> None:
    bench, full = twins(llama_folder, base)
    plain = answers(bench).detach()
    torch.testing.assert_close(plain, answers(full), rtol=1e-4, atol=1e-3)
    factors = some(bench, 4)
    updates: Mapping[str, Update] = factors
    if dense:
        updates = {n: f.delta for n, f in factors.items()}
    for each in (bench, full):
        fold(each, updates)
    assert (answers(full) - plain).norm() > 0.1 * plain.norm()
    torch.testing.assert_close(answers(bench), answers(full), rtol=1e-4, atol=1e-3)
    fold(bench, {})
    assert torch.equal(answers(bench), plain)


@pytest.mark.parametrize("base", BITS)
def test_gradients_reach_the_factors_as_in_the_model_that_comes_back(
    llama_folder: Path, base: Bits
) -> None:
    found = []
    for bench in twins(llama_folder, base):
        fold(bench, some(bench, 3))
        place(bench, some(bench, 2))
        trainable(bench)
        bench.net.train()
        ids = torch.arange(40).view(2, 20) * 7 % 500
        bench.net(input_ids=ids, labels=ids).loss.backward()
        found.append([t.grad for f in placed(bench).values() for t in (f.a, f.b)])
    for one, other in zip(*found, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_memory_counts_the_bits(llama_folder: Path) -> None:
    full, eight, four = (opened(llama_folder, base) for base in ("full", *BITS))
    numbers = sum(layer.shape[0] * layer.shape[1] for layer in full.layers.values())
    left = weights(full) - 4 * numbers
    assert numbers < weights(eight) - left < 1.1 * numbers
    assert numbers / 2 < weights(four) - left < 0.7 * numbers
    peaks = [profile(bench, 2, 32).peak(2) for bench in (full, eight, four)]
    assert peaks == sorted(peaks, reverse=True)


@pytest.fixture(scope="module", params=BITS)
def shared(request: pytest.FixtureRequest, stories: Path, llama_folder: Path) -> Setup:
    """Model and data, which all algorithms share."""
    return prepare(changed(made(stories, llama_folder), engine={"base": request.param}))


@pytest.mark.parametrize("name", names())
def test_every_algorithm_trains_it(recipe: polyrank.Recipe, shared: Setup, name: str) -> None:
    asked = under(recipe, name, engine={"group": 4}, rounds=2 if name in FOLDING else 1)
    records = trial(asked, name, shared)
    first, *_, last = records.rounds
    assert not last["left_out"]
    assert last["test"]["loss"] < first["test"]["loss"]
    alone = trial(changed(asked, engine={"group": 1}), name, shared)
    assert alone.value == pytest.approx(records.value, rel=1e-4)


FOLDING = ("flora", "catchup", "fedex-lora")


def test_a_run_begins_with_an_adapter_beside_its_base(llama_folder: Path, tmp_path: Path) -> None:
    bench = opened(llama_folder, "int4")
    begun = some(bench, 3)
    plain, folder = answers(bench).detach(), tmp_path / "adapter"
    peft.save(folder, Adapter(begun), str(llama_folder), kind="CAUSAL_LM")
    few = Lora(targets=("q_proj",), init_from=folder)
    other = opened(llama_folder, "int4", few)
    fold(bench, begun)
    torch.testing.assert_close(answers(other), answers(bench), rtol=1e-5, atol=1e-5)
    fold(other, {n: f for n, f in some(other, 2).items()})
    fold(other, {})
    torch.testing.assert_close(answers(other), answers(bench), rtol=1e-5, atol=1e-5)
    assert (answers(other) - plain).norm() > 0.01 * plain.norm()


@pytest.mark.parametrize("base", BITS)
def test_files_in_bits_are_such_a_base_too(llama_folder: Path, base: Bits, tmp_path: Path) -> None:
    bench = opened(llama_folder, base)
    plain = {k: t for k, t in bench.net.state_dict().items() if ".lora." not in k}
    bench.net.save_pretrained(tmp_path, state_dict=plain)
    bench.tokenizer.save_pretrained(tmp_path)
    other = opened(tmp_path, "full")
    for each in (bench, other):
        fold(each, some(bench, 2))
    torch.testing.assert_close(answers(other), answers(bench), rtol=1e-5, atol=1e-5)


def test_merging_says_that_the_base_is_whole_again(recipe: polyrank.Recipe, tmp_path: Path) -> None:
    run = polyrank.run(changed(recipe, engine={"base": "int4"}))
    *_, line = export(Asked(run.folder, tmp_path / "merged", merge=True))
    assert line.startswith("note: trained on the base in int4")
    merged = load(str(tmp_path / "merged"), ["any"], ALL, 0, "causal-lm")
    full, update = opened(Path(recipe.model), "full"), peft.load(run.adapter)
    fold(full, update.factors)
    torch.testing.assert_close(answers(merged), answers(full), rtol=1e-4, atol=1e-4)


def test_a_classifier_keeps_its_head_in_float32(gpt2_folder: Path) -> None:
    conv = Lora(targets=("c_attn", "mlp.c_proj"))
    how = Engine(base="int8", dtype="bfloat16")
    bench = load(str(gpt2_folder), ["a", "b"], conv, 0, engine=how)
    assert stored_transposed(bench)
    kinds = {
        n: bench.net.get_parameter(n).dtype for n in ("score.weight", "transformer.wte.weight")
    }
    assert set(kinds.values()) == {torch.float32, torch.bfloat16}
    place(bench, template(bench, 2))
    out = bench.net(input_ids=torch.arange(8)[None]).logits
    assert out.shape == (1, 2)
    assert out.isfinite().all()


def test_without_the_library_the_remedy_is_named(
    recipe: polyrank.Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(RecipeError, match="int8 needs the library bitsandbytes: pip install"):
        prepared(changed(recipe, engine={"base": "int8"}))


def test_activations_are_not_kept_of_it() -> None:
    with pytest.raises(ValueError, match=r"block needs engine\.base full, not int4"):
        polyrank.Recipe.model_validate({"cache": "block", "engine": {"base": "int4"}})
