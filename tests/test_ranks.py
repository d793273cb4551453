"""Dealing ranks to clients."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyrank.errors import RecipeError
from polyrank.ranks import assign, possible

RANKS = st.integers(1, 256)
CLIENTS = st.integers(1, 300)
SEEDS = st.integers(0, 2**31)


@st.composite
def mixes(draw: st.DrawFn) -> dict[int, str | float]:
    """Shares in thousandths that add up to one, some of them zero, some as percentages."""
    ranks = draw(st.lists(RANKS, min_size=1, max_size=8, unique=True))
    cuts = sorted(draw(st.integers(0, 1000)) for _ in ranks[1:])
    parts = [end - start for start, end in zip([0, *cuts], [*cuts, 1000], strict=True)]
    return {
        rank: f"{part / 10}%" if draw(st.booleans()) else part / 1000
        for rank, part in zip(ranks, parts, strict=True)
    }


def share(value: str | float) -> float:
    return float(value[:-1]) / 100 if isinstance(value, str) else value


@given(rank=RANKS, clients=CLIENTS, seed=SEEDS)
def test_one_rank_is_everyones(rank: int, clients: int, seed: int) -> None:
    assert assign(rank, clients, seed) == [rank] * clients


@given(ranks=st.lists(RANKS, min_size=1), seed=SEEDS)
def test_a_list_keeps_its_order(ranks: list[int], seed: int) -> None:
    assert assign(ranks, len(ranks), seed) == ranks
    assert assign(tuple(ranks), len(ranks), seed) == ranks


@given(mix=mixes(), clients=CLIENTS, seed=SEEDS)
def test_a_mix_gives_every_client_a_rank_of_the_mix(
    mix: dict[int, str | float], clients: int, seed: int
) -> None:
    ranks = assign(mix, clients, seed)
    assert len(ranks) == clients
    assert set(ranks) <= possible(mix) == {rank for rank in mix if share(mix[rank])}


@given(mix=mixes(), clients=CLIENTS, seed=SEEDS)
def test_every_rank_of_a_mix_gets_a_client_if_there_are_enough(
    mix: dict[int, str | float], clients: int, seed: int
) -> None:
    if clients >= len(possible(mix)):
        assert set(assign(mix, clients, seed)) == possible(mix)


@given(mix=mixes(), clients=CLIENTS, seed=SEEDS)
def test_counts_are_within_one_of_their_quota_but_for_the_least_client(
    mix: dict[int, str | float], clients: int, seed: int
) -> None:
    counts = Counter(assign(mix, clients, seed))
    quotas = {rank: share(mix[rank]) * clients for rank in mix}
    if all(quota >= 1 or quota == 0 for quota in quotas.values()):
        assert all(abs(counts[rank] - quota) < 1 + 1e-6 for rank, quota in quotas.items())


@given(mix=mixes(), clients=CLIENTS, seed=SEEDS)
def test_the_order_in_which_a_mix_is_written_is_no_matter(
    mix: dict[int, str | float], clients: int, seed: int
) -> None:
    assert assign(dict(reversed(mix.items())), clients, seed) == assign(mix, clients, seed)


@pytest.mark.parametrize(
    ("mix", "clients", "counts"),
    [
        ({4: "60%", 16: "30%", 64: "10%"}, 10, {4: 6, 16: 3, 64: 1}),
        ({4: "29%", 8: "71%"}, 100, {4: 29, 8: 71}),  # 0.29 · 100 is just under 29 in floats
        ({4: 0.9, 64: 0.1}, 100, {4: 90, 64: 10}),
        ({4: 0.35, 8: 0.65}, 10, {4: 4, 8: 6}),  # a tie goes to the smaller rank
        ({64: 0.35, 8: 0.65}, 10, {64: 3, 8: 7}),
        ({4: 0.98, 8: 0.01, 16: 0.01}, 10, {4: 8, 8: 1, 16: 1}),  # at least one each
        ({4: 0.5, 8: 0.3, 16: 0.2}, 2, {4: 1, 8: 1}),  # too few clients for that
        ({4: 1, 8: 0}, 3, {4: 3}),
        ({4: 0.333333, 8: 0.333333, 16: 0.333334}, 3, {4: 1, 8: 1, 16: 1}),
    ],
)
def test_a_mix_is_dealt_by_largest_remainder(
    mix: dict[int, str | float], clients: int, counts: dict[int, int]
) -> None:
    assert Counter(assign(mix, clients, seed=0)) == counts


def test_the_seed_shuffles_the_clients_and_nothing_else() -> None:
    deals = [assign({4: 0.5, 8: 0.5}, 40, seed) for seed in range(5)]
    assert deals[0] == assign({4: 0.5, 8: 0.5}, 40, 0)
    assert len(set(map(tuple, deals))) == 5
    assert all(sorted(deal) == sorted(deals[0]) for deal in deals)


def test_ranks_are_frozen_for_a_seed() -> None:
    assert assign({2: 0.5, 4: 0.25, 8: 0.25}, 8, seed=7) == [2, 2, 8, 2, 4, 8, 2, 4]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (0, "0 is not a rank (a whole number, at least 1)"),
        (True, "true is not a rank (a whole number, at least 1)"),
        ([4, 8], "2 ranks for 3 clients; a list has one rank for each client"),
        ([], "[] is empty"),
        ({4: "60%", 8: "30%"}, "{4: '60%', 8: '30%'} adds up to 90%, not 100%"),
        ({4: "x"}, "'x' is not a share, such as 60% or 0.6"),
        ({-1: 1.0}, "-1 is not a rank (a whole number, at least 1)"),
    ],
)
def test_a_wrong_spec_is_a_mistake_at_lora_ranks(spec: Any, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        assign(spec, 3, seed=0)
    assert (caught.value.key, caught.value.problem) == ("lora.ranks", problem)


def test_possible_ranks_of_each_form() -> None:
    assert possible(8) == {8}
    assert possible((4, 8, 4)) == {4, 8}
    assert possible({4: "50%", 8: 0.5, 16: 0}) == {4, 8}
