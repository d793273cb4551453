"""What catchup claims, against a dense float64 reference."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polyrank.algorithm import Algorithm, State
from polyrank.algorithms import load
from polyrank.client.private import base_of, folds, kept
from polyrank.client.start import begin
from polyrank.lora.factor import Factor
from polyrank.lora.update import dense
from polyrank.messages import Client, Upload
from tests.algorithms.dense import IN, OUT, best, close, template, uploads

RANKS = st.lists(st.integers(1, 7), min_size=1, max_size=5)
ZERO = torch.zeros(OUT, IN, dtype=torch.float64)


def idle(algorithm: Algorithm, state: State, client: Client) -> Upload:
    """What a client sends that changes nothing."""
    start = algorithm.send(state, client).start
    nothing = {
        "w": Factor(torch.ones(client.rank, IN).double(), ZERO[:, :1].expand(OUT, client.rank))
    }
    return Upload(client, start or nothing, 1)


def averaged(changes: list[Tensor], rows: list[Tensor], p: list[float], trust: float) -> Tensor:
    """(Σ p C N)(Σ p N)⁻¹ with N = Π + ω(I − Π), written out densely."""
    eye = torch.eye(IN, dtype=torch.float64)
    spaces = [torch.linalg.pinv(a) @ a for a in rows]
    n = [x + trust * (eye - x) for x in spaces]
    whole = sum(w * m for w, m in zip(p, n, strict=True))
    parts = sum(w * c @ m for w, c, m in zip(p, changes, n, strict=True))
    return parts @ torch.linalg.inv(whole)


@pytest.mark.parametrize("start", ["piece", "random"])
@pytest.mark.parametrize("trust", [1.0, 0.3, 0.05])
@given(RANKS)
def test_the_server_adds_the_mean_of_all_changes_over_those_who_train(
    start: str, trust: float, ranks: list[int]
) -> None:
    """Each client's change is measured from what it was sent to train; with ω = 1 the mean."""
    algorithm = load("catchup", start=start, trust=trust)
    ranks = [min(r, IN) for r in ranks]
    state, expected = algorithm.init(template(7), 0), ZERO
    for t in range(3):
        sent = uploads(ranks, seed=t)
        like = template(1)
        starts = [begin(algorithm.send(state, u.client), u.client, like)["w"] for u in sent]
        state, _ = algorithm.aggregate(state, sent)
        total = sum(u.examples for u in sent)
        p = [u.examples / total for u in sent]
        changes = [u.factors["w"].delta - s.delta for u, s in zip(sent, starts, strict=True)]
        expected = expected + averaged(changes, [s.a for s in starts], p, trust)
        close(algorithm.read(state)["w"].delta, expected)
        if trust == 1.0:
            plain = sum(w * c for w, c in zip(p, changes, strict=True))
            close(averaged(changes, [s.a for s in starts], p, trust), plain)


@given(ranks=RANKS, weights=st.lists(st.floats(0.01, 9), min_size=5))
def test_it_does_not_move_when_clients_change_nothing(
    ranks: list[int], weights: list[float]
) -> None:
    """Unbiased for any weights, also where the ranks are new to the server."""
    algorithm = load("catchup")
    state, _ = algorithm.aggregate(algorithm.init(template(7), 0), uploads([7, 5]))
    clients = [Client(f"c{i}", r) for i, r in enumerate(ranks)]
    sent = [
        Upload(c, algorithm.send(state, c).start, 1, weight=w)
        for c, w in zip(clients, weights, strict=False)
    ]
    after, _ = algorithm.aggregate(state, sent)
    close(algorithm.read(after)["w"].delta, algorithm.read(state)["w"].delta)


@pytest.mark.parametrize("start", ["piece", "random"])
@given(present=st.lists(st.booleans(), min_size=6, max_size=6), rank=st.sampled_from([1, 2, 5]))
def test_a_client_holds_the_best_pieces_so_far_whenever_it_comes(
    start: str, present: list[bool], rank: int
) -> None:
    """Base and start together are V_g + D_g, written out densely, for one that comes and goes."""
    algorithm = load("catchup", start=start)
    state, shadow, private, seen = algorithm.init(template(5), 0), ZERO, {}, 0
    for t, here in enumerate(present):
        client = Client("c", rank, seen=seen)
        shadow = shadow + best(algorithm.read(state)["w"].delta - shadow, rank)
        if here:
            sent = algorithm.send(state, client)
            base = dense(base_of(sent, client, private).get("w", ZERO))
            close(base + sum(f.delta for f in sent.start.values()), shadow)
            private, seen = kept(sent, base_of(sent, client, private), {}), sent.version
            close(dense(folds(private).get("w", ZERO)), shadow)
            close(sum(f.delta for f in algorithm.held(state, client)["w"]), shadow)
        state, _ = algorithm.aggregate(state, [uploads([rank], seed=t)[0]])


def test_even_rank_one_ends_with_the_full_rank_model() -> None:
    """Error feedback on the way down: with clients at rest the base reaches ΔW in full."""
    algorithm = load("catchup")
    state, _ = algorithm.aggregate(algorithm.init(template(7), 0), uploads([7, 7]))
    whole = algorithm.read(state)["w"].delta
    client, private = Client("c", 1), {}
    apart = []
    for _ in range(IN):
        sent = algorithm.send(state, client)
        private = kept(sent, base_of(sent, client, private), {})
        apart.append(float((dense(folds(private)["w"]) - whole).norm()))
        client = Client("c", 1, seen=sent.version)
        state, _ = algorithm.aggregate(state, [idle(algorithm, state, client)])
    close(algorithm.read(state)["w"].delta, whole)
    assert all(x > y for x, y in pairwise(apart))
    assert apart[-1] < 1e-10


@pytest.mark.parametrize("start", ["piece", "random"])
def test_a_round_costs_the_clients_rank_each_way(start: str) -> None:
    algorithm = load("catchup", start=start)
    state = algorithm.init(template(4), 0)
    for t in range(3):
        state, _ = algorithm.aggregate(state, uploads([2, 4], seed=t))
        sent = algorithm.send(state, Client("c", 2, seen=t + 1))
        travels = [*sent.start.values(), *sent.fold.values()]
        assert [f.rank for f in travels] == [2]
        assert (sent.since, sent.version) == (t + 1, t + 2)


def test_the_size_of_a_piece_beside_fresh_factors_is_an_option() -> None:
    algorithm = load("catchup", start="random", down=2.0)
    after, _ = algorithm.aggregate(algorithm.init(template(4), 0), uploads([2, 4]))
    assert algorithm.send(after, Client("c", 2, seen=1)).fold["w"].rank == 4


def test_energy_that_may_be_noise_is_forgotten_where_that_is_asked_for() -> None:
    whole, cut = load("catchup"), load("catchup", tau=0.9)
    first = whole.init(template(7), 0)
    states = [a.aggregate(first, uploads([7, 6]))[0] for a in (whole, cut)]
    ranks = [len(a.read(s)["w"].a) for a, s in zip((whole, cut), states, strict=True)]
    assert ranks[1] < ranks[0]
    energy = [
        float(a.read(s)["w"].delta.square().sum())
        for a, s in zip((whole, cut), states, strict=True)
    ]
    assert 0.9 * energy[0] <= energy[1] < energy[0]
