"""Laws of the algorithms that average products: raflora and florist, against dense float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polyrank.algorithm import State
from polyrank.algorithms import load
from polyrank.client.private import base_of
from polyrank.client.start import begin
from polyrank.errors import RecipeError
from polyrank.lora.factor import Factor
from polyrank.lora.spectral import recompress
from polyrank.lora.update import dense
from polyrank.messages import Client, Upload
from tests.algorithms.dense import IN, OUT, best, close, mean, template, uploads

RANKS = st.lists(st.integers(1, 7), min_size=1, max_size=5)
FULL = min(OUT, IN)


def svd_slots(delta: Tensor, rank: int) -> list[Tensor]:
    """The rank-one terms of an update in SVD order, zeros after its last."""
    u, s, v = torch.linalg.svd(delta)
    terms = [s[j] * torch.outer(u[:, j], v[j]) for j in range(min(rank, FULL))]
    return terms + [torch.zeros_like(delta)] * (rank - len(terms))


def partitioned(sent: list[Upload]) -> Tensor:
    """Σ_h Σ_{i: r_i≥h} (p_i/P_h) B_i[:, l:h] A_i[l:h], as it is written."""
    total, low = torch.zeros(OUT, IN, dtype=torch.float64), 0
    for high in sorted({u.client.rank for u in sent}):
        holders = [u for u in sent if u.client.rank >= high]
        weight = sum(u.examples for u in holders)
        for u in holders:
            slots = svd_slots(u.factors["w"].delta, u.client.rank)
            total += u.examples / weight * sum(slots[low:high])
        low = high
    return total


def idle(name: str, state: State, ranks: list[int]) -> list[Upload]:
    """What clients of these ranks return when they change nothing."""
    send = load(name).send
    clients = [Client(f"c{i}", r) for i, r in enumerate(ranks)]
    return [
        Upload(c, begin(send(state, c), c, template(c.rank)), 1 + i) for i, c in enumerate(clients)
    ]


@given(RANKS, st.integers(0, 99))
def test_raflora_is_the_sum_over_partitions(ranks: list[int], seed: int) -> None:
    sent, algorithm = uploads(ranks, seed=seed), load("raflora")
    state, _ = algorithm.aggregate(algorithm.init(template(7), 0), sent)
    close(algorithm.read(state)["w"].delta, best(partitioned(sent), 7))


@given(RANKS)
def test_raflora_reads_each_client_in_svd_order(ranks: list[int]) -> None:
    """The gauge of a client's factor does not matter: only its product does."""
    sent, algorithm = uploads(ranks), load("raflora")
    turned = []
    for u in sent:
        f = u.factors["w"]
        turn = torch.eye(f.rank, dtype=torch.float64).flip(0) * 2
        turned.append(
            Upload(u.client, {"w": Factor(turn @ f.a, f.b @ turn.inverse(), f.scale)}, u.examples)
        )
    ends = [algorithm.aggregate(algorithm.init(template(7), 0), s)[0] for s in (sent, turned)]
    close(algorithm.read(ends[0])["w"].delta, algorithm.read(ends[1])["w"].delta)


@given(ranks=RANKS, seed=st.integers(0, 99))
def test_raflora_does_not_move_when_clients_change_nothing(ranks: list[int], seed: int) -> None:
    """Also in rounds from which the high ranks are away."""
    algorithm = load("raflora")
    state, _ = algorithm.aggregate(algorithm.init(template(7), 0), uploads([7, 5], seed=seed))
    before = algorithm.read(state)["w"].delta
    for _ in range(3):
        state, _ = algorithm.aggregate(state, idle("raflora", state, ranks))
    close(algorithm.read(state)["w"].delta, before)


def test_raflora_keeps_the_singular_values_that_flexlora_lets_decay() -> None:
    ends = {}
    for name in ("raflora", "flexlora"):
        algorithm = load(name)
        state, _ = algorithm.aggregate(algorithm.init(template(6), 0), uploads([6], seed=3))
        first = torch.linalg.svdvals(algorithm.read(state)["w"].delta)
        for _ in range(5):
            state, _ = algorithm.aggregate(state, idle(name, state, [1, 2, 4, 6]))
        ends[name] = torch.linalg.svdvals(algorithm.read(state)["w"].delta) / first
    close(ends["raflora"], torch.ones(FULL, dtype=torch.float64))
    assert ends["flexlora"][-1] < 0.02


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_raflora_with_one_rank_is_fedhl(rank: int) -> None:
    """Slots beyond that rank have no holders: ΔW − T_r(ΔW) stays, the mean takes T_r's place."""
    states = []
    for name in ("raflora", "fedhl"):
        algorithm = load(name)
        state, _ = algorithm.aggregate(algorithm.init(template(FULL), 0), uploads([FULL], seed=1))
        state, _ = algorithm.aggregate(state, uploads([rank] * 3, seed=2))
        states.append(algorithm.read(state)["w"].delta)
    close(states[0], states[1])


def test_raflora_with_many_clients_stays_exact_in_bounded_memory() -> None:
    sent, algorithm = uploads([1, 3, 6] * 12), load("raflora")
    state, _ = algorithm.aggregate(algorithm.init(template(6), 0), sent)
    close(algorithm.read(state)["w"].delta, partitioned(sent))


@given(RANKS, st.floats(0.05, 0.999))
def test_florist_keeps_the_fewest_slots_that_hold_the_energy(ranks: list[int], tau: float) -> None:
    algorithm = load("florist", tau=tau)
    state = algorithm.init(template(7), 0)
    held = torch.zeros(OUT, IN, dtype=torch.float64)
    for t in range(3):
        sent = uploads(ranks, seed=t)
        state, info = algorithm.aggregate(state, sent)
        exact = held + mean(sent)
        energy = torch.linalg.svdvals(exact).square()
        rank = next(k for k in range(1, FULL + 1) if energy[:k].sum() >= tau * energy.sum())
        got = algorithm.read(state)["w"]
        assert got.rank == info["ranks"]["w"] == rank
        held = best(exact, rank)
        close(got.delta, held)


@given(RANKS)
def test_florist_that_keeps_all_is_flora(ranks: list[int]) -> None:
    ends = []
    for algorithm in (load("florist", tau=1.0), load("flora")):
        state = algorithm.init(template(7), 0)
        for t in range(3):
            state, _ = algorithm.aggregate(state, uploads(ranks, seed=t))
        ends.append(algorithm.read(state)["w"].delta)
    close(ends[0], ends[1])


def test_florist_that_keeps_all_keeps_what_is_tiny() -> None:
    """A singular value of 10⁻⁹ holds 10⁻¹⁸ of the energy, less than a double's last digit."""
    algorithm = load("florist", tau=1.0)
    b = torch.zeros(OUT, 2, dtype=torch.float64)
    b[0, 0], b[1, 1] = 1.0, 1e-9
    small = {"w": Factor(torch.eye(2, IN, dtype=torch.float64), b)}
    sent = [Upload(Client("a", 2), small, 1)]
    state, _ = algorithm.aggregate(algorithm.init(template(2), 0), sent)
    assert algorithm.read(state)["w"].rank == 2


def test_florist_sends_everyone_one_adapter_and_a_start_of_their_own() -> None:
    algorithm = load("florist")
    state, _ = algorithm.aggregate(algorithm.init(template(7), 0), uploads([7, 2]))
    adapter = algorithm.read(state)["w"]
    starts = {}
    for client in (Client("a", 1), Client("b", 7), Client("c", 7, seen=3)):
        sent = algorithm.send(state, client)
        close(dense(base_of(sent, client, {})["w"]), adapter.delta)  # whole, on the pretrained base
        assert sent.fold["w"].rank == adapter.rank  # p(m+n): nothing else travels
        assert (sent.start, sent.since, sent.version) == ({}, 0, 0)
        starts[client.id] = begin(sent, client, template(client.rank))["w"]
        assert starts[client.id].rank == client.rank
        assert not starts[client.id].b.any()
    assert not torch.equal(starts["b"].a, starts["c"].a)
    after, _ = algorithm.aggregate(state, uploads([7, 2], seed=1))
    again = begin(algorithm.send(after, Client("b", 7)), Client("b", 7), template(7))["w"]
    assert not torch.equal(again.a, starts["b"].a)


def test_florists_adapter_is_in_svd_order() -> None:
    algorithm = load("florist")
    state, _ = algorithm.aggregate(algorithm.init(template(7), 0), uploads([7, 2]))
    f = algorithm.read(state)["w"]
    close(f.a @ f.a.T, torch.eye(f.rank, dtype=torch.float64))
    close(f.b.norm(dim=0), torch.linalg.svdvals(recompress(f).delta)[: f.rank])


@pytest.mark.parametrize("tau", [0.0, 1.5])
def test_florist_refuses_a_share_that_is_none(tau: float) -> None:
    with pytest.raises(RecipeError, match=rf"algorithm.tau: {tau}: input should be"):
        load("florist", tau=tau)
