"""What catchup claims, against a dense float64 reference."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from polyrank.algorithms import load
from polyrank.client.private import base_of, kept
from polyrank.lora.factor import Factor
from polyrank.messages import Client, Upload
from tests.algorithms.dense import IN, OUT, best, close, mean, template, uploads

RANKS = st.lists(st.integers(1, 7), min_size=1, max_size=5)
ZERO = torch.zeros(OUT, IN, dtype=torch.float64)


@given(RANKS)
def test_the_server_holds_the_exact_sum_of_all_rounds(ranks: list[int]) -> None:
    algorithm = load("catchup")
    state, expected = algorithm.init(template(7), 0), ZERO
    for t in range(3):
        sent = uploads(ranks, seed=t)
        state, _ = algorithm.aggregate(state, sent)
        expected = expected + mean(sent)
        close(algorithm.read(state)["w"].delta, expected)


@given(st.lists(st.booleans(), min_size=6, max_size=6), st.sampled_from([1, 2, 5]))
def test_a_base_catches_up_by_the_best_piece_whenever_its_client_comes(
    present: list[bool], rank: int
) -> None:
    """The base holds V_g, written out densely, for a client that comes and goes."""
    algorithm = load("catchup")
    state, shadow, private, seen = algorithm.init(template(5), 0), ZERO, {}, 0
    for t, here in enumerate(present):
        client = Client("c", rank, seen=seen)
        shadow = shadow + best(algorithm.read(state)["w"].delta - shadow, rank)
        if here:
            sent = algorithm.send(state, client)
            base = base_of(sent, client, private)
            close(base.get("w", ZERO), shadow)
            private, seen = kept(sent, base, {}), sent.version
            held = algorithm.held(state, client)
            close(sum(f.delta for f in held["w"]), shadow)
        one = uploads([rank], seed=t)[0]
        state, _ = algorithm.aggregate(state, [one])


def test_even_rank_one_ends_with_the_full_rank_model() -> None:
    """Error feedback on the way down: with clients at rest the base reaches ΔW in full."""
    algorithm = load("catchup")
    state, _ = algorithm.aggregate(algorithm.init(template(7), 0), uploads([7, 7]))
    whole = algorithm.read(state)["w"].delta
    client, private = Client("c", 1), {}
    apart = []
    for _ in range(IN):
        sent = algorithm.send(state, client)
        base = base_of(sent, client, private)
        apart.append(float((base["w"] - whole).norm()))
        private, client = kept(sent, base, {}), Client("c", 1, seen=sent.version)
        idle = Factor(torch.ones(1, IN).double(), torch.zeros(OUT, 1).double())
        state, _ = algorithm.aggregate(state, [Upload(client, {"w": idle}, 1)])
    close(algorithm.read(state)["w"].delta, whole)
    assert all(x > y for x, y in pairwise(apart))
    assert apart[-1] < 1e-10


def test_a_round_costs_the_clients_rank_each_way() -> None:
    algorithm = load("catchup")
    state = algorithm.init(template(4), 0)
    assert not algorithm.send(state, Client("c", 2)).fold  # nothing to catch up with yet
    for t in range(3):
        state, _ = algorithm.aggregate(state, uploads([2, 4], seed=t))
        sent = algorithm.send(state, Client("c", 2, seen=t + 1))
        assert (sent.fold["w"].rank, sent.since, sent.version) == (2, t + 1, t + 2)
        assert not sent.start  # A comes from a seed and B is zero: neither is sent


def test_the_size_of_a_piece_and_the_start_are_options() -> None:
    state = load("catchup").init(template(4), 0)
    twice = load("catchup", down=2.0)
    after, _ = twice.aggregate(state, uploads([2, 4]))
    assert twice.send(after, Client("c", 2, seen=1)).fold["w"].rank == 4
    lead = load("catchup", start="leading")
    after, _ = lead.aggregate(state, uploads([2, 4]))
    rows = lead.send(after, Client("c", 2, seen=1)).start["w"]
    assert rows.b.shape == (0, 2)
    close(rows.a, lead.read(after)["w"].a[:2])
