"""A base in bfloat16, and all that is trained in float32."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
import torch

import polyrank
from polyrank.client.model import Workbench, fold, load, logits, template
from polyrank.client.placing import place, placed, trainable
from polyrank.client.precision import slow
from polyrank.data.batches import Batch, Tokens
from polyrank.experiment.events import Warned
from polyrank.lora import peft
from polyrank.lora.factor import Factor
from polyrank.lora.update import Update
from polyrank.recipe.schema import Engine, Lora

CLASSES = ["sport", "world", "science"]
Updates = Mapping[str, Update]
CONV = Lora(targets=("c_attn", "c_proj"))


@pytest.fixture
def both(gpt2_folder: Path) -> tuple[Workbench, Workbench]:
    """The same model in float32 and in bfloat16."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    one, other = (
        load(str(gpt2_folder), CLASSES, CONV, seed=0, engine=Engine(dtype=d)) for d in dtypes
    )
    return one, other


def factors(bench: Workbench, rank: int = 2, size: float = 0.25) -> dict[str, Factor]:
    draw = torch.Generator().manual_seed(1)
    return {
        n: Factor(*(size * torch.randn(t.shape, generator=draw) for t in (f.a, f.b)))
        for n, f in template(bench, rank).items()
    }


def answers(bench: Workbench) -> torch.Tensor:
    bench.net.eval()
    ids = torch.arange(16).view(2, 8) % 15
    labels = torch.zeros(2, dtype=torch.int64)
    tokens = Tokens(ids.flatten(), labels, torch.tensor([0, 8, 16]), 0)
    return logits(bench, tokens, Batch(ids, torch.ones_like(ids), labels, torch.arange(2)))


def test_only_what_is_trained_stays_in_float32(both: tuple[Workbench, Workbench]) -> None:
    _, bench = both
    place(bench, factors(bench))
    trained = {id(p) for some in trainable(bench) for p in some}
    for parameter in bench.net.parameters():
        wanted = torch.float32 if id(parameter) in trained else torch.bfloat16
        assert parameter.dtype == wanted
    out = answers(bench)
    assert out.dtype == torch.float32
    out.square().sum().backward()
    assert {p.grad.dtype for f in placed(bench).values() for p in (f.a, f.b)} == {torch.float32}


def test_logits_and_gradients_are_those_of_float32_but_for_rounding(
    both: tuple[Workbench, Workbench],
) -> None:
    found = []
    for bench in both:
        place(bench, factors(bench))
        trainable(bench)
        out = answers(bench)
        out.square().sum().backward()
        grads = torch.cat([p.grad.flatten() for f in placed(bench).values() for p in (f.a, f.b)])
        found.append((out.detach(), grads))
    for exact, rounded in zip(*found, strict=True):
        assert not torch.equal(exact, rounded)
        assert (exact - rounded).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("dense", [True, False])
def test_a_fold_stays_beside_the_weights_and_goes_without_a_trace(
    both: tuple[Workbench, Workbench], dense: bool
) -> None:
    _, bench = both
    before = {n: t.clone() for n, t in bench.net.state_dict().items()}
    plain = [answers(each).detach() for each in both]
    found = factors(bench)
    folds: Updates = {n: f.delta for n, f in found.items()} if dense else found
    for each in both:
        fold(each, folds)
    moved = [answers(each).detach() for each in both]
    changes = [after - start for after, start in zip(moved, plain, strict=True)]
    assert (changes[0] - changes[1]).norm() < 0.05 * changes[0].norm()
    fold(bench, {})
    assert torch.equal(answers(bench), plain[1])
    assert all(torch.equal(t, before[n]) for n, t in bench.net.state_dict().items())


def test_a_fold_below_the_weights_last_digit_is_not_lost(
    both: tuple[Workbench, Workbench],
) -> None:
    _, bench = both
    name, layer = next(iter(bench.layers.items()))
    weight = bench.net.get_submodule(name).weight.detach().T
    small = weight.float() * 2**-10  # a quarter of a unit in the last place
    assert torch.equal((weight.float() + small).bfloat16(), weight)
    fold(bench, {name: small})
    x = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(0)).bfloat16()
    change = layer.held(x, torch.zeros(3, weight.shape[0], dtype=torch.bfloat16)).float()
    wanted = x.float() @ small.T
    assert (change - wanted).norm() < 0.01 * wanted.norm()


@pytest.mark.parametrize("name", ["replicate", "flora"])
def test_a_run_in_bfloat16_ends_near_the_run_in_float32(recipe: Path, name: str) -> None:
    losses = {}
    for dtype, group in (("float32", "auto"), ("bfloat16", "auto"), ("bfloat16", "1")):
        own = [f"algorithm={name}", f"engine.dtype={dtype}", f"engine.group={group}"]
        own += [f"name={name}-{dtype}-{group}", "local.optimizer=sgd"]
        run = polyrank.run(polyrank.load_recipe(recipe, own))
        losses[dtype, group] = [r["test"]["loss"] for r in run.records.rounds]
        weights = peft.load(run.folder / "adapter")
        assert all(t.dtype == torch.float32 for f in weights.factors.values() for t in (f.a, f.b))
    for found in losses.values():
        assert found == pytest.approx(losses["float32", "auto"], rel=0.03)


def test_a_processor_without_bfloat16_is_named_once(
    recipe: Path, both: tuple[Workbench, Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    for able in (True, False):
        monkeypatch.setattr("polyrank.client.precision._has_bfloat16", lambda able=able: able)
        assert slow(both[0].net) is None
        assert (slow(both[1].net) is None) == able
    told = []
    polyrank.run(
        polyrank.load_recipe(recipe, ["engine.dtype=bfloat16", "rounds=1"]), watch=told.append
    )
    (line,) = (event.line for event in told if isinstance(event, Warned))
    assert line.startswith("engine.dtype bfloat16: this processor")
