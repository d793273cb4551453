"""The server optimizer against its equations, written out densely."""

import pytest
import torch

from polyrank.algorithms import load, names
from polyrank.lora.factor import Factor
from polyrank.recipe.schema import Aggregation
from polyrank.server.optimizer import Moments, can_step, step
from tests.algorithms.dense import close, template, uploads

DENSE = {"head": torch.ones(3, dtype=torch.float64)}


@pytest.mark.parametrize("name", ["fedhl", "replicate"])
@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_two_steps_by_hand(name: str, kind: str) -> None:
    how = Aggregation(optimizer=kind, lr=0.5, momentum=0.8, beta2=0.9, eps=0.1)
    algorithm = load(name)
    state, moments, dense = algorithm.init(template(4), 0), Moments(), DENSE

    def seen(state: object) -> list[torch.Tensor]:
        f = algorithm.read(state)["w"]
        return [f.delta] if name == "fedhl" else [f.a, f.b]

    x = [t.clone() for t in seen(state)]
    m, v = [0 * t for t in x], [0 * t for t in x]
    for t in range(2):
        after, _ = algorithm.aggregate(state, uploads([4, 2], seed=t))
        goal, heads = seen(after), {"head": dense["head"] + 1.0}
        (state, dense), moments = step(how, (state, dense), (after, heads), moments)
        for i, g in enumerate(y - z for y, z in zip(goal, x, strict=True)):
            m[i] = 0.8 * m[i] + (g if kind == "momentum" else 0.2 * g)
            v[i] = 0.9 * v[i] + 0.1 * g**2
            x[i] = x[i] + 0.5 * (m[i] if kind == "momentum" else m[i] / (v[i].sqrt() + 0.1))
        for got, expected in zip(seen(state), x, strict=True):
            close(got, expected)
    if kind == "momentum":
        close(dense["head"], DENSE["head"] + 0.5 + 0.5 * 1.8)


def test_none_is_the_algorithm_itself() -> None:
    algorithm = load("zero-pad")
    before = algorithm.init(template(4), 0)
    after, _ = algorithm.aggregate(before, uploads([4, 2]))
    result, moments = step(Aggregation(), (before, DENSE), (after, DENSE), Moments())
    assert result[0] is after
    assert moments == Moments()


def test_it_steps_what_can_be_stepped() -> None:
    can = {
        n
        for n in names()
        if can_step(load(n).init({"w": Factor(torch.zeros(1, 1), torch.zeros(1, 1))}, 0))
    }
    assert {"zero-pad", "replicate", "fedhl", "catchup"} <= can
    assert can.isdisjoint({"flora", "fedex-lora"})  # what is folded must be what was sent
