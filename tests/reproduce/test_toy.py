"""The toy problem: its gradients, its laws, and every algorithm on it."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyrank.algorithms import about, names
from polyrank.client.rules import tail
from polyrank.lora.factor import Factor
from polyrank.messages import Prune
from polyrank.reproduce import toy
from polyrank.reproduce.toy_figures import best_so_far, convergence, course, slope
from polyrank.reproduce.toy_laws import POWERS, decay, exactness
from polyrank.reproduce.toy_runs import Method, plan_of, ranks_of, steps

SMALL = toy.Setting(size=12, ranks=(6, 3, 2, 1), decay=0.8, steps=3)


def leaves(rank: int, scale: float, seed: int) -> tuple[Factor, Tensor, toy.Problem]:
    """Random factors and a core that autograd follows, and a steep problem."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).requires_grad_()

    of = toy.problem(toy.Setting(size=5, ranks=(1, 2), condition=10.0), seed)
    return Factor(draw(rank, 5), draw(5, rank), scale), draw(rank, rank), of


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.floats(0.1, 4.0), st.integers(0, 99), st.booleans())
def test_gradients_are_those_of_autograd(rank: int, scale: float, seed: int, core: bool) -> None:
    f, c, of = leaves(rank, scale, seed)
    w = scale * f.b @ (c @ f.a if core else f.a)
    loss = ((w - of.optimum).square() * of.covariance).sum() / 2
    wanted = torch.autograd.grad(loss, (f.a, f.b, c) if core else (f.a, f.b))
    still = Factor(f.a.detach(), f.b.detach(), scale)
    g = toy.gradient(of, w.detach())
    found = toy.factor_gradients(still, g, "ab")
    if core:
        torch.testing.assert_close(toy.core_gradient(still, g), wanted[2])
    else:
        torch.testing.assert_close((found.a, found.b), wanted)
    assert toy.excess(of, w.detach()) == pytest.approx(float(loss.detach()))


def test_a_side_that_is_not_trained_has_no_gradient() -> None:
    f, _, of = leaves(2, 1.0, 0)
    still = Factor(f.a.detach(), f.b.detach())
    g = toy.gradient(of, still.delta)
    assert not toy.factor_gradients(still, g, "a").b.any()
    assert not toy.factor_gradients(still, g, "b").a.any()
    assert toy.factor_gradients(still, g, "b").b.any()


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_gradient_of_a_tail_is_that_of_autograd(rank: int) -> None:
    f, _, _ = leaves(rank, 1.5, 3)
    prune = Prune(keep=0.6, penalty=1.0)
    found = toy.tail_gradients(Factor(f.a.detach(), f.b.detach(), 1.5), prune)
    if rank == 1:
        assert not found.a.any()
        assert not found.b.any()
        return
    wanted = torch.autograd.grad(tail([f], prune), (f.a, f.b))
    torch.testing.assert_close((found.a, found.b), wanted)


def test_the_clients_gradients_vanish_together_at_the_optimum() -> None:
    of = toy.problem(toy.Setting(spread=0.7), seed=4)
    pulls = torch.stack([(of.optimum - w) * of.covariance for w in of.optima.values()])
    assert pulls.norm() > 1.0
    assert pulls.mean(dim=0).norm() < 1e-12
    apart = [float((w - of.optimum).norm() / of.optimum.norm()) for w in of.optima.values()]
    assert sum(apart) / len(apart) == pytest.approx(0.7)


@pytest.mark.parametrize("row", decay(SMALL, rounds=4), ids=lambda row: row["name"])
def test_singular_values_of_idle_clients_decay_as_told(row: dict) -> None:
    assert row["power"] == POWERS[row["name"]]
    assert row["error"] < 1e-9
    moved = any(abs(part["measured"] - 1) > 0.1 for part in row["rows"])
    assert moved == (row["name"] in ("flexlora", "zero-pad"))


def test_the_decay_of_flexlora_by_hand() -> None:
    (flexlora,) = [row for row in decay(SMALL, rounds=4) if row["name"] == "flexlora"]
    found = {part["slot"]: part["measured"] for part in flexlora["rows"]}
    wanted = {1: 1.0, 2: 0.75**4, 3: 0.5**4, 4: 0.25**4}
    assert found == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("row", exactness(SMALL, rounds=4), ids=lambda row: row["name"])
def test_what_says_it_is_exact_is_exact(row: dict) -> None:
    assert about(row["name"]).exact
    assert row["later"] < 1e-10
    # fed-sb finds its frozen sides in the first round: a best approximation of low rank
    assert (row["first"] < 1e-10) == (row["name"] != "fed-sb")


def test_exactness_can_fail() -> None:
    of, plan = toy.problem(SMALL, 0), plan_of(Method("flexlora"), SMALL, 0, 2)
    _, last = steps(plan, of, SMALL, 0.05)
    changes = [t.ended - t.begun for t in last.traces.values()]
    first, _ = steps(plan, of, SMALL, 0.05)
    mean = torch.stack(changes).mean(dim=0)
    assert (last.model - first.model - mean).norm() > 1e-2 * mean.norm()


@pytest.mark.parametrize("name", names())
def test_every_algorithm_learns(name: str) -> None:
    run = course(Method(name), SMALL, 0.05, seed=0, rounds=8)
    assert len(run.excess) == 8
    assert run.excess[-1] < 0.95
    assert run == course(Method(name), SMALL, 0.05, seed=0, rounds=8)


def test_unbiased_and_exact_servers_beat_those_that_truncate() -> None:
    ends = {
        name: course(Method(name), SMALL, 0.05, seed=0, rounds=40).excess[-1]
        for name in ("zero-pad", "flexlora", "fedhl", "catchup", "flora")
    }
    assert max(ends["fedhl"], ends["catchup"], ends["flora"]) < 0.7 * ends["flexlora"]
    assert ends["flexlora"] < ends["zero-pad"]


def test_traffic_is_what_the_papers_say() -> None:
    width, ranks = 2 * SMALL.size, SMALL.ranks
    mean = sum(ranks) / len(ranks)
    flora, catchup = (course(Method(n), SMALL, 0.05, 0, rounds=3) for n in ("flora", "catchup"))
    up = pytest.approx([width * mean * t for t in range(4)])
    assert (flora.up, catchup.up) == (up, up)
    # nothing is folded in the first round; then S rows and columns a round, or the client's r_i
    assert flora.down == pytest.approx([0, 0, *(width * sum(ranks) * t for t in (1, 2))])
    assert catchup.down == pytest.approx([0, 0, *(width * mean * t for t in (1, 2))])


def test_equal_ranks_are_the_mean_rank() -> None:
    assert ranks_of("fedit", SMALL) == (3, 3, 3, 3)
    assert ranks_of("flora", SMALL) == SMALL.ranks


def test_the_slope_of_a_power_law_is_its_power() -> None:
    assert slope([t**-0.5 for t in range(1, 41)]) == pytest.approx(-0.5)
    assert best_so_far([3.0, 1.0, 2.0]) == [3.0, 1.0, 1.0]


def test_convergence_is_plain_data() -> None:
    methods = [Method("catchup", {"start": "random"}), Method("fedit")]
    data = convergence(methods, SMALL, rounds=4, seeds=[0, 1], grid=[0.05, 1e3])
    assert json.loads(json.dumps(data))["rounds"] == 4
    catchup, fedit = data["rows"]
    assert catchup["label"] == "catchup(start=random)"
    assert (catchup["equal_rank"], fedit["equal_rank"]) == (None, 3)
    assert catchup["lr"] == 0.05
    assert catchup["tried"][1] == {"lr": 1e3, "excess": None}
    assert len(catchup["excess"]) == len(catchup["down"]) == 4
    assert catchup["excess"][-1]["half"] > 0


def test_a_method_that_diverges_has_no_values() -> None:
    (row,) = convergence([Method("flexlora")], SMALL, 3, seeds=[0, 1], grid=[1e3])["rows"]
    assert row["excess"] == row["gradient"] == [None] * 3
    assert (row["slope"], row["lr"]) == (None, 1e3)
