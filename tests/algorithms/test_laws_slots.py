"""Laws of the algorithms whose server holds slots: hetlora, fslora, fed-plora and lora-fair."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polyrank.algorithm import Algorithm, State
from polyrank.algorithms import about, load
from polyrank.client.private import base_of
from polyrank.errors import RecipeError
from polyrank.lora.algebra import fold
from polyrank.lora.factor import Factor
from polyrank.lora.update import dense
from polyrank.messages import Client, Prune, Upload
from tests.algorithms.dense import IN, OUT, close, mean, template, uploads
from tests.algorithms.federation import Federation

RANKS = st.lists(st.integers(1, 7), min_size=1, max_size=5)
TOP = 4


def random(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def learned(algorithm: Algorithm, rank: int = TOP, seed: int = 0) -> State:
    """A state whose A and B are both random: one client of full rank moved everything."""
    state = algorithm.init(template(rank), 0)
    client = Client("first", rank)
    start = algorithm.send(state, client).start["w"]
    moved = Factor(start.a + random(rank, IN, seed=seed), random(OUT, rank, seed=seed + 1))
    return algorithm.aggregate(state, [Upload(client, {"w": moved}, 1)])[0]


def slots_of(part: Factor, whole: Factor) -> tuple[int, ...]:
    """Which slots of `whole` a client was sent, by its rows of A."""
    return tuple(int((whole.a == row).all(dim=1).nonzero()) for row in part.a)


def one_of_each(algorithm: Algorithm, state: State, rank: int) -> dict[tuple[int, ...], Client]:
    """For every set of that many slots a client who was sent it."""
    whole, found = algorithm.read(state)["w"], {}
    for i in range(300):
        client = Client(f"c{i}", rank)
        found.setdefault(slots_of(algorithm.send(state, client).start["w"], whole), client)
    assert sorted(found) == list(combinations(range(TOP), rank))
    return found


# hetlora


@given(RANKS)
def test_hetlora_is_zero_padding_with_other_weights_and_a_rule_for_clients(
    ranks: list[int],
) -> None:
    sent = [replace(u, weight=0.1 + i) for i, u in enumerate(uploads(ranks))]
    ends = []
    for algorithm in (load("hetlora", gamma=0.5, penalty=0.25), load("zero-pad")):
        state, _ = algorithm.aggregate(algorithm.init(template(7), 0), sent)
        ends.append((algorithm.read(state)["w"], algorithm.send(state, Client("x", 3))))
    (f, download), (g, plain) = ends
    close(f.a, g.a)
    close(f.b, g.b)
    assert download.prune == Prune(keep=0.5, penalty=0.25)
    assert (download.start["w"].rank, plain.start["w"].rank) == (3, 3)
    assert about("hetlora").weights == "norm"


def test_hetlora_sends_a_client_no_more_than_its_cut_left() -> None:
    algorithm = load("hetlora")
    state = algorithm.init(template(6), 0)
    cut, whole = uploads([4, 6])
    cut = replace(cut, client=Client("c0", 6))  # asked for 6, sent 4
    state, info = algorithm.aggregate(state, [cut, whole])
    assert info == {"pruned": {"c0": 4}}
    assert algorithm.send(state, Client("c0", 6)).start["w"].rank == 4
    assert algorithm.send(state, Client("c1", 6)).start["w"].rank == 6
    state, _ = algorithm.aggregate(state, [whole])  # a round without it: not forgotten
    assert algorithm.send(state, Client("c0", 6)).start["w"].rank == 4
    further = replace(uploads([3])[0], client=Client("c0", 6))
    state, _ = algorithm.aggregate(state, [further])
    assert algorithm.send(state, Client("c0", 6)).start["w"].rank == 3


@pytest.mark.parametrize("asked", [2, 5])
def test_hetlora_forgets_a_cut_when_another_rank_is_asked_for(asked: int) -> None:
    algorithm = load("hetlora")
    cut = replace(uploads([3])[0], client=Client("c0", 4))
    state, _ = algorithm.aggregate(algorithm.init(template(6), 0), [cut])
    assert algorithm.send(state, Client("c0", asked)).start["w"].rank == asked
    moved = replace(uploads([asked])[0], client=Client("c0", asked))
    state, _ = algorithm.aggregate(state, [moved])
    assert algorithm.send(state, Client("c0", asked)).start["w"].rank == asked


def test_hetlora_refuses_a_cut_that_leaves_nothing() -> None:
    with pytest.raises(RecipeError, match=r"algorithm.gamma: 0.0: input should be greater than 0"):
        load("hetlora", gamma=0.0)


# fslora


@pytest.mark.parametrize("rank", range(1, TOP + 1))
def test_fslora_sketches_are_the_model_on_average(rank: int) -> None:
    """E over all sets of r_i slots of B S_i A is B A; no single sketch is, below full rank."""
    algorithm = load("fslora")
    state = learned(algorithm)
    whole = algorithm.read(state)["w"].delta
    clients = one_of_each(algorithm, state, rank).values()
    sketches = [algorithm.send(state, c).start["w"].delta for c in clients]
    close(torch.stack(sketches).mean(dim=0), whole)
    assert all((s - whole).norm() > 1e-3 for s in sketches) or rank == TOP


@pytest.mark.parametrize("rank", range(1, TOP + 1))
def test_fsloras_masked_changes_are_the_full_gradient_on_average(rank: int) -> None:
    """With loss ⟨G, W⟩ a step on a sketch, averaged over all sketches, is one on the model."""
    algorithm, g, lr = load("fslora"), random(OUT, IN, seed=9), 0.1
    state = learned(algorithm)
    before = algorithm.read(state)["w"]
    sent = []
    for client in one_of_each(algorithm, state, rank).values():
        f = algorithm.send(state, client).start["w"]
        a, b = f.a - lr * f.scale * f.b.T @ g, f.b - lr * f.scale * g @ f.a.T
        sent.append(Upload(client, {"w": Factor(a, b, f.scale)}, 1))
    state, _ = algorithm.aggregate(state, sent)
    after = algorithm.read(state)["w"]
    close(after.a, before.a - lr * before.b.T @ g)
    close(after.b, before.b - lr * g @ before.a.T)


def test_fsloras_mask_reaches_every_layer() -> None:
    """The published mask never matches a parameter's name, so nothing is sketched."""
    fed = Federation("fslora", {}, [2, 5])
    state, client = fed.later(), Client("new", 2)
    sent = fed.algorithm.send(state, client)
    after = fed.aggregate(state, [fed.upload(state, client, seed=1)])
    for name, whole in fed.algorithm.read(state).items():
        part = sent.start[name]
        assert (part.rank, part.scale) == (2, 5 / 2)
        chosen = slots_of(part, whole)
        moved = fed.algorithm.read(after)[name]
        rows, columns = (moved.a != whole.a).any(dim=1), (moved.b != whole.b).any(dim=0)
        assert tuple(rows.nonzero().flatten().tolist()) == chosen
        assert tuple(columns.nonzero().flatten().tolist()) == chosen


@given(RANKS)
def test_fslora_adds_the_masked_changes(ranks: list[int]) -> None:
    algorithm = load("fslora")
    state = learned(algorithm, rank=7)
    before = algorithm.read(state)["w"]
    a, b = before.a.clone(), before.b.clone()
    sent = uploads(ranks, seed=1)
    total = sum(u.examples for u in sent)
    for u in sent:
        chosen = slots_of(algorithm.send(state, u.client).start["w"], before)
        for k, j in enumerate(chosen):
            f, weight = u.factors["w"], u.examples / total
            column = f.scale * f.b[:, k] * u.client.rank / 7
            a[j] += weight * (f.a[k] - before.a[j])
            b[:, j] += weight * (column - before.b[:, j])
    state, _ = algorithm.aggregate(state, sent)
    close(algorithm.read(state)["w"].a, a)
    close(algorithm.read(state)["w"].b, b)
    assert about("fslora").weights == "uniform"


def test_fslora_does_not_move_when_clients_change_nothing() -> None:
    algorithm = load("fslora")
    state = learned(algorithm)
    idle = [
        Upload(c, algorithm.send(state, c).start, 1)
        for c in (Client("a", 1), Client("b", 3), Client("c", 4))
    ]
    after, _ = algorithm.aggregate(state, idle)
    close(algorithm.read(after)["w"].a, algorithm.read(state)["w"].a)
    close(algorithm.read(after)["w"].b, algorithm.read(state)["w"].b)


@pytest.mark.parametrize("name", ["fslora", "fed-plora"])
def test_slots_are_chosen_anew_and_alike_often(name: str) -> None:
    algorithm = load(name)
    state = learned(algorithm)
    counts, sets = torch.zeros(TOP), set()
    for _ in range(400):
        whole = algorithm.read(state)["w"]
        chosen = slots_of(algorithm.send(state, Client("a", 2)).start["w"], whole)
        counts[list(chosen)] += 1
        sets.add(chosen)
        state, _ = algorithm.aggregate(state, [])
    assert len(sets) == 6
    assert counts.min() > 165  # of 200 expected; a standard deviation is 10
    assert counts.sum() == 800


# fed-plora


@given(st.integers(1, 7), st.integers(0, 99))
def test_fed_ploras_clients_start_from_the_whole_model(rank: int, id: int) -> None:
    algorithm = load("fed-plora")
    state = learned(algorithm, rank=7)
    client, whole = Client(f"c{id}", rank), algorithm.read(state)["w"]
    sent = algorithm.send(state, client)
    start, folded = sent.start["w"], base_of(sent, client, {}).get("w")
    assert start.rank == rank
    held = start.delta if folded is None else start.delta + dense(folded)
    close(held, whole.delta)
    assert (sent.since, sent.version) == (0, 0)
    travel = [*sent.start.values(), *sent.fold.values()]
    assert sum(f.a.numel() + f.b.numel() for f in travel) == 7 * (OUT + IN)


@given(RANKS)
def test_fed_plora_is_the_mean_over_the_holders_of_each_module(ranks: list[int]) -> None:
    algorithm = load("fed-plora")
    state = learned(algorithm, rank=7)
    before = algorithm.read(state)["w"]
    sent = uploads(ranks, seed=1)
    held: dict[int, list[tuple[int, Tensor, Tensor]]] = {}
    for u in sent:
        f = fold(u.factors["w"])
        chosen = slots_of(algorithm.send(state, u.client).start["w"], before)
        for k, j in enumerate(chosen):
            held.setdefault(j, []).append((u.examples, f.a[k], f.b[:, k]))
    state, _ = algorithm.aggregate(state, sent)
    after = algorithm.read(state)["w"]
    for j in range(7):
        if j not in held:
            assert torch.equal(after.a[j], before.a[j])
            assert torch.equal(after.b[:, j], before.b[:, j])
            continue
        total = sum(w for w, _, _ in held[j])
        close(after.a[j], sum(w / total * a for w, a, _ in held[j]))
        close(after.b[:, j], sum(w / total * b for w, _, b in held[j]))


# lora-fair


def corrected(sent: list[Upload], lam: float) -> Factor:
    """The rule for equal ranks, dense: averages of A and B, and the ridge solution for B."""
    total = sum(u.examples for u in sent)
    folded = [(u.examples / total, fold(u.factors["w"])) for u in sent]
    a, b = (sum(p * getattr(f, side) for p, f in folded) for side in "ab")
    residual = mean(sent) - b @ a
    gram = a @ a.T + lam * torch.eye(len(a), dtype=torch.float64)
    return Factor(a, b + residual @ a.T @ gram.inverse())


def padded(sent: list[Upload], rank: int) -> list[Upload]:
    """The clients with their holders' mean in the slots that they lack; scales folded."""
    folded = [fold(u.factors["w"]) for u in sent]
    a, b = (torch.zeros(s, dtype=torch.float64) for s in ((rank, IN), (OUT, rank)))
    for j in range(max(f.rank for f in folded)):
        holders = [(u.examples, f) for u, f in zip(sent, folded, strict=True) if f.rank > j]
        total = sum(w for w, _ in holders)
        a[j] = sum(w / total * f.a[j] for w, f in holders)
        b[:, j] = sum(w / total * f.b[:, j] for w, f in holders)
    full = [
        Factor(torch.cat([f.a, a[f.rank :]]), torch.cat([f.b, b[:, f.rank :]], dim=1))
        for f in folded
    ]
    return [replace(u, factors={"w": f}) for u, f in zip(sent, full, strict=True)]


@given(st.integers(1, 7), st.integers(1, 5), st.floats(1e-3, 10.0))
def test_lora_fair_with_equal_ranks_is_the_ridge_solution(
    rank: int, clients: int, lam: float
) -> None:
    sent, algorithm = uploads([rank] * clients), load("lora-fair", lam=lam)
    state, _ = algorithm.aggregate(algorithm.init(template(rank), 0), sent)
    got, expected = algorithm.read(state)["w"], corrected(sent, lam)
    close(got.a, expected.a)
    close(got.b, expected.b)


@given(RANKS)
def test_lora_fair_with_mixed_ranks_is_that_of_clients_padded_with_their_holders_mean(
    ranks: list[int],
) -> None:
    sent, algorithm = uploads(ranks), load("lora-fair", lam=0.5)
    state, _ = algorithm.aggregate(algorithm.init(template(7), 0), sent)
    got, expected = algorithm.read(state)["w"], corrected(padded(sent, 7), 0.5)
    close(got.a, expected.a)
    close(got.b, expected.b)


def test_lora_fair_comes_closer_to_the_exact_mean_than_fedit() -> None:
    sent, errors = uploads([3, 3, 3]), {}
    for name in ("fedit", "lora-fair"):
        algorithm = load(name)
        state, _ = algorithm.aggregate(algorithm.init(template(3), 0), sent)
        errors[name] = float((algorithm.read(state)["w"].delta - mean(sent)).norm())
    assert errors["lora-fair"] < 0.9 * errors["fedit"]


def test_lora_fair_is_exact_where_the_rows_of_a_span_the_layer() -> None:
    sent, algorithm = uploads([7, 7, 7]), load("lora-fair", lam=1e-12)
    state, _ = algorithm.aggregate(algorithm.init(template(7), 0), sent)
    torch.testing.assert_close(algorithm.read(state)["w"].delta, mean(sent), atol=1e-6, rtol=1e-6)


@given(ranks=RANKS)
def test_lora_fair_does_not_move_when_clients_change_nothing(ranks: list[int]) -> None:
    """With Σ p_i s_i B_i A_i of the truncated starts as its target, it would."""
    algorithm = load("lora-fair", lam=1e-6)
    state, _ = algorithm.aggregate(algorithm.init(template(7), 0), uploads([7, 5]))
    clients = [Client(f"c{i}", r) for i, r in enumerate(ranks)]
    idle = [Upload(c, algorithm.send(state, c).start, 1 + i) for i, c in enumerate(clients)]
    after, _ = algorithm.aggregate(state, idle)
    close(algorithm.read(after)["w"].a, algorithm.read(state)["w"].a)
    torch.testing.assert_close(
        algorithm.read(after)["w"].b, algorithm.read(state)["w"].b, atol=1e-7, rtol=1e-7
    )


def test_lora_fair_keeps_a_slot_whose_holders_are_away() -> None:
    algorithm = load("lora-fair")
    state, _ = algorithm.aggregate(algorithm.init(template(5), 0), uploads([2, 5]))
    before = algorithm.read(state)["w"]
    state, _ = algorithm.aggregate(state, uploads([2, 3], seed=1))
    after = algorithm.read(state)["w"]
    assert torch.equal(after.a[3:], before.a[3:])
    assert torch.equal(after.b[:, 3:], before.b[:, 3:])
    assert not torch.equal(after.b[:, :3], before.b[:, :3])


@pytest.mark.parametrize("name", ["hetlora", "lora-fair"])
def test_a_promoted_client_starts_with_an_unchanged_model(name: str) -> None:
    algorithm = load(name)
    state, _ = algorithm.aggregate(algorithm.init(template(6), 0), uploads([2, 2, 2]))
    low, high = (algorithm.send(state, Client("c0", r)).start["w"] for r in (2, 6))
    assert (low.rank, high.rank) == (2, 6)
    close(high.delta, low.delta)
    assert high.a[2:].any(dim=1).all()
