"""What each algorithm claims for itself, against a dense float64 reference."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyrank.algorithms import load
from polyrank.client.start import begin
from polyrank.errors import RankError, RecipeError
from polyrank.lora.algebra import fold
from polyrank.messages import Client, Upload
from tests.algorithms.dense import IN, OUT, best, close, mean, template, uploads

RANKS = st.lists(st.integers(1, 7), min_size=1, max_size=5)


def shares(sent: list[Upload], rank: int) -> torch.Tensor:
    """P_j: the data share of the clients that hold slot j."""
    total = sum(u.examples for u in sent)
    held = [sum(u.examples for u in sent if u.client.rank > j) for j in range(rank)]
    return torch.tensor(held, dtype=torch.float64) / total


@given(RANKS)
def test_zero_pad_is_replicate_times_the_dilution(ranks: list[int]) -> None:
    sent, top = uploads(ranks), max(ranks)
    after = {}
    for name in ("zero-pad", "replicate"):
        algorithm = load(name)
        state, _ = algorithm.aggregate(algorithm.init(template(top), 0), sent)
        after[name] = algorithm.read(state)["w"]
    share = shares(sent, top)
    close(after["zero-pad"].a, share[:, None] * after["replicate"].a)
    close(after["zero-pad"].b, share * after["replicate"].b)


@given(RANKS, st.sampled_from(["weighted", "mean"]))
def test_replicate_is_the_mean_over_padded_clients(ranks: list[int], fill: str) -> None:
    """The definition, written out: pad with the holders' aggregate, then average everyone."""
    sent, top = uploads(ranks), max(ranks)
    algorithm = load("replicate", fill=fill)
    state, _ = algorithm.aggregate(algorithm.init(template(top), 0), sent)
    total = sum(u.examples for u in sent)
    for j in range(top):
        holders = [u for u in sent if u.client.rank > j]
        weights = [u.examples if fill == "weighted" else 1 for u in holders]
        rows = [u.factors["w"].a[j] for u in holders]
        copy = sum(w * x for w, x in zip(weights, rows, strict=True)) / sum(weights)
        padded = [u.factors["w"].a[j] if u.client.rank > j else copy for u in sent]
        expected = sum(u.examples / total * x for u, x in zip(sent, padded, strict=True))
        close(algorithm.read(state)["w"].a[j], expected)


@pytest.mark.parametrize("fill", ["weighted", "mean"])
def test_replicate_keeps_a_slot_whose_holders_are_away(fill: str) -> None:
    algorithm = load("replicate", fill=fill)
    state, _ = algorithm.aggregate(algorithm.init(template(5), 0), uploads([2, 5]))
    before = algorithm.read(state)["w"]
    state, _ = algorithm.aggregate(state, uploads([2, 3], seed=1))
    after = algorithm.read(state)["w"]
    assert torch.equal(after.a[3:], before.a[3:])
    assert torch.equal(after.b[:, 3:], before.b[:, 3:])
    assert not torch.equal(after.a[:3], before.a[:3])


@pytest.mark.parametrize("name", ["zero-pad", "replicate", "flexlora", "fedhl"])
def test_a_promoted_client_starts_with_an_unchanged_model(name: str) -> None:
    """Round one at rank 2 for all; then one client is promoted to rank 6."""
    algorithm = load(name)
    state, _ = algorithm.aggregate(algorithm.init(template(6), 0), uploads([2, 2, 2]))
    low = algorithm.send(state, Client("c0", 2)).start["w"]
    held = algorithm.read(state)["w"]
    high = algorithm.send(state, Client("c0", 6)).start["w"]
    assert (high.rank, low.rank) == (6, 2)
    if name in ("zero-pad", "replicate"):
        close(high.delta, low.delta)
        assert high.a[2:].any(dim=1).all()
        assert not high.b[:, 2:].any()
    else:
        close(high.delta, best(held.delta, 6))


def test_fedit_refuses_mixed_ranks_by_name() -> None:
    algorithm = load("fedit")
    with pytest.raises(RankError, match=r"client 'c1' sent rank 2 for w.* has 4; use replicate"):
        algorithm.aggregate(algorithm.init(template(4), 0), uploads([4, 2]))


def test_fedit_averages_every_client() -> None:
    """FLoRA's repository averages only the first client in its FedIT branch."""
    sent = uploads([4, 4, 4], examples=[1, 2, 3])
    algorithm = load("fedit")
    state, _ = algorithm.aggregate(algorithm.init(template(4), 0), sent)
    folded = [fold(u.factors["w"]) for u in sent]
    got = algorithm.read(state)["w"]
    close(got.a, sum(w / 6 * f.a for w, f in zip((1, 2, 3), folded, strict=True)))
    close(got.b, sum(w / 6 * f.b for w, f in zip((1, 2, 3), folded, strict=True)))


def test_a_rank_one_factor_is_not_broadcast_into_a_larger_one() -> None:
    """Flower's averaging is numpy `+=`, which silently broadcasts a rank-1 A."""
    for name in ("zero-pad", "replicate"):
        algorithm = load(name)
        sent = uploads([1, 4])
        state, _ = algorithm.aggregate(algorithm.init(template(4), 0), sent)
        only_high = fold(sent[1].factors["w"])
        rest = algorithm.read(state)["w"]
        share = 1.0 if name == "replicate" else 3 / 5
        close(rest.a[1:], share * only_high.a[1:])


@given(RANKS)
def test_flexlora_is_the_best_approximation_of_the_exact_mean(ranks: list[int]) -> None:
    sent, top = uploads(ranks), max(ranks)
    algorithm = load("flexlora")
    state, _ = algorithm.aggregate(algorithm.init(template(top), 0), sent)
    close(algorithm.read(state)["w"].delta, best(mean(sent), top))
    for rank in range(1, top + 1):
        start = algorithm.send(state, Client("x", rank)).start["w"]
        close(start.delta, best(mean(sent), rank))


def test_flexlora_in_memory_of_the_layer_is_exact_for_many_clients() -> None:
    sent = uploads([6] * 40)
    algorithm = load("flexlora")
    state, _ = algorithm.aggregate(algorithm.init(template(6), 0), sent)
    close(algorithm.read(state)["w"].delta, mean(sent))


def test_flexlora_decays_by_the_share_of_holders_and_fedhl_does_not() -> None:
    """Clients that change nothing: the j-th singular value goes as P_j^t under flexlora."""
    ranks, examples = [1, 2, 4, 6], [4, 3, 2, 1]
    truth = uploads([6], seed=3)[0]
    clients = [Client(f"c{i}", r) for i, r in enumerate(ranks)]
    for name in ("flexlora", "fedhl"):
        algorithm = load(name)
        state, _ = algorithm.aggregate(algorithm.init(template(6), 0), [truth])
        first = torch.linalg.svdvals(algorithm.read(state)["w"].delta)
        for t in range(1, 6):
            idle = [
                Upload(c, algorithm.send(state, c).start, n)
                for c, n in zip(clients, examples, strict=True)
            ]
            state, _ = algorithm.aggregate(state, idle)
            now = torch.linalg.svdvals(algorithm.read(state)["w"].delta)
            decay = shares(idle, 6) ** t if name == "flexlora" else torch.ones(6).double()
            close(now, first * decay)


@given(ranks=RANKS, seed=st.integers(0, 99), weights=st.lists(st.floats(0.01, 9), min_size=5))
def test_fedhl_does_not_move_when_clients_change_nothing(
    ranks: list[int], seed: int, weights: list[float]
) -> None:
    """Unbiased for any weights."""
    algorithm = load("fedhl")
    start = algorithm.init(template(7), 0)
    state, _ = algorithm.aggregate(start, uploads([7, 5], seed=seed))
    clients = [Client(f"c{i}", r) for i, r in enumerate(ranks)]
    idle = [
        Upload(c, algorithm.send(state, c).start, 1, weight=w)
        for c, w in zip(clients, weights, strict=False)
    ]
    after, _ = algorithm.aggregate(state, idle)
    close(algorithm.read(after)["w"].delta, algorithm.read(state)["w"].delta)


@given(RANKS)
def test_fedhl_adds_the_weighted_changes_since_the_truncated_starts(ranks: list[int]) -> None:
    algorithm = load("fedhl")
    state, _ = algorithm.aggregate(algorithm.init(template(7), 0), uploads([7, 6]))
    before = algorithm.read(state)["w"].delta
    sent = uploads(ranks, seed=1)
    total = sum(u.examples for u in sent)
    expected = before + sum(
        u.examples / total * (u.factors["w"].delta - best(before, u.client.rank)) for u in sent
    )
    after, _ = algorithm.aggregate(state, sent)
    close(algorithm.read(after)["w"].delta, expected)


@given(RANKS)
def test_flora_is_the_exact_sum_of_all_rounds(ranks: list[int]) -> None:
    algorithm = load("flora")
    state = algorithm.init(template(7), 0)
    expected = torch.zeros(OUT, IN, dtype=torch.float64)
    for t in range(3):
        sent = uploads(ranks, seed=t)
        state, _ = algorithm.aggregate(state, sent)
        expected += mean(sent)
        close(algorithm.read(state)["w"].delta, expected)


def test_flora_sends_each_client_what_its_base_lacks() -> None:
    """Whatever a client has seen, folding what it is sent gives exactly the server's update."""
    algorithm = load("flora")
    state = algorithm.init(template(3), 0)
    history = [torch.zeros(OUT, IN, dtype=torch.float64)]
    for t in range(5):
        state, _ = algorithm.aggregate(state, uploads([1, 2], seed=t))
        history.append(algorithm.read(state)["w"].delta)
    for seen in range(6):
        sent = algorithm.send(state, Client("c", 2, seen=seen))
        folded = sent.fold["w"].delta if sent.fold else 0
        base = history[sent.since] if sent.since else torch.zeros_like(history[0])
        close(base + folded, history[-1])
        assert sent.version == 5
        assert sum(f.rank for f in sent.fold.values()) <= min(OUT, IN)
    last = algorithm.send(state, Client("c", 2, seen=4))
    assert last.fold["w"].rank == 3  # exactly the round's stack: S = 1 + 2
    assert not last.start  # B is zero and A comes from a seed: neither is sent


def test_floras_clients_start_from_different_rows() -> None:
    algorithm = load("flora")
    state = algorithm.init(template(3), 0)
    clients = [Client("a", 3), Client("b", 3)]
    one, two = (begin(algorithm.send(state, c), c, template(3))["w"] for c in clients)
    assert not torch.equal(one.a, two.a)
    assert not one.b.any()


def test_unknown_algorithms_and_options_name_the_nearest() -> None:
    with pytest.raises(RecipeError, match="no algorithm 'zeropad'; did you mean 'zero-pad'"):
        load("zeropad")
    with pytest.raises(RecipeError, match=r"algorithm.fil: replicate .* did you mean 'fill'"):
        load("replicate", fil="mean")
    with pytest.raises(RecipeError, match="flora has no such option; it has none"):
        load("flora", tau=1)
    with pytest.raises(
        RecipeError, match=r"algorithm.fill: 'max': input should be 'weighted' or 'mean'"
    ):
        load("replicate", fill="max")
