"""Dealing ranks to clients."""

import itertools
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyrank.errors import RecipeError
from polyrank.ranks import assign, by_budget, memories, possible, promote
from polyrank.recipe.policies import Budget, Memory, Quality

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


# -- a budget -------------------------------------------------------------------------------


def budget(units: int, cost: int, most: int = 64) -> Budget:
    """A budget that pays for so many units of rank, and not for one more."""
    return Budget(policy="budget", mb=units * cost * 4 / 10**6, most=most)


def worth(ranks: Any, examples: list[int]) -> float:
    return math.fsum(n * math.log(r) for r, n in zip(ranks, examples, strict=True))


@given(
    examples=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    spare=st.integers(0, 12),
    most=st.integers(1, 6),
    cost=st.integers(1, 10**6),
)
def test_no_other_ranks_within_the_budget_are_worth_more(
    examples: list[int], spare: int, most: int, cost: int
) -> None:
    units = len(examples) + spare
    ranks = by_budget(budget(units, cost), examples, cost, most)
    assert sum(ranks) == min(units, most * len(examples))  # all of it is spent
    assert 1 <= min(ranks) <= max(ranks) <= most
    others = itertools.product(range(1, most + 1), repeat=len(examples))
    best = max(worth(other, examples) for other in others if sum(other) <= units)
    assert worth(ranks, examples) == pytest.approx(best, abs=1e-9)


@given(examples=st.lists(st.integers(1, 1000), min_size=2, max_size=8), spare=st.integers(0, 200))
def test_more_data_never_means_a_lower_rank(examples: list[int], spare: int) -> None:
    ranks = by_budget(budget(len(examples) + spare, 768), examples, 768, 512)
    by_size = [r for _, r in sorted(zip(examples, ranks, strict=True))]
    assert by_size == sorted(by_size)


@given(examples=st.lists(st.integers(1, 1000), min_size=1, max_size=8), spare=st.integers(0, 100))
def test_a_larger_budget_lowers_nobodys_rank(examples: list[int], spare: int) -> None:
    smaller, larger = (
        by_budget(budget(len(examples) + more, 768), examples, 768, 512)
        for more in (spare, spare + 1)
    )
    assert all(a <= b for a, b in zip(smaller, larger, strict=True))


def test_ranks_of_a_budget_are_frozen() -> None:
    examples = [100, 100, 400, 1600]
    assert by_budget(budget(22, 9216), examples, 9216, 384) == [1, 1, 4, 16]
    assert by_budget(budget(5, 9216), [7, 7, 7], 9216, 384) == [2, 2, 1]  # ties: the first client
    assert by_budget(budget(999, 9216, most=8), [1, 2], 9216, 384) == [8, 8]
    assert by_budget(budget(999, 9216), [1, 2], 9216, 4) == [4, 4]


def test_a_budget_below_rank_one_names_the_smallest_that_works() -> None:
    with pytest.raises(RecipeError) as caught:
        by_budget(Budget(policy="budget", mb=0.01), [5] * 10, 9216, 384)
    assert str(caught.value) == (
        "lora.ranks: 0.01 MB is too little for rank 1 at 10 clients; "
        "the smallest that works is 0.369 MB"
    )
    assert by_budget(Budget(policy="budget", mb=0.369), [5] * 10, 9216, 384) == [1] * 10


# -- memories and quality -------------------------------------------------------------------


def test_memories_are_dealt_as_ranks_are() -> None:
    def dealt(gib: Any) -> list[float]:
        return memories(Memory(policy="memory", gib=gib), 8, seed=7)

    assert dealt(1.5) == [1.5] * 8
    assert dealt(tuple(map(float, range(1, 9)))) == list(range(1, 9))
    mix = dealt({0.5: "50%", 2: "25%", 8: 0.25})
    places = {2: 0.5, 4: 2, 8: 8}
    assert mix == [places[rank] for rank in assign({2: 0.5, 4: 0.25, 8: 0.25}, 8, seed=7)]


def test_a_list_of_memories_has_one_for_each_client() -> None:
    with pytest.raises(RecipeError, match=r"^lora\.ranks\.gib: 2 sizes for 3 clients; a list has"):
        memories(Memory(policy="memory", gib=(1.0, 2.0)), 3, seed=0)


def test_only_the_model_can_tell_the_ranks_of_a_budget_or_a_memory() -> None:
    for spec in (Budget(policy="budget", mb=1), Memory(policy="memory", gib=1)):
        assert possible(spec) == set()
        with pytest.raises(TypeError, match="depend on the model"):
            assign(spec, 3, seed=0)


def quality(share: Any) -> Quality:
    return Quality.model_validate({"policy": "quality", "low": 5, "high": 20, "share": share})


def test_with_the_quality_policy_everyone_starts_low() -> None:
    assert assign(quality("10%"), 4, seed=0) == [5] * 4
    assert possible(quality("10%")) == {5, 20}


@given(
    losses=st.dictionaries(st.text(max_size=3), st.floats(), min_size=1),
    thousandths=st.integers(1, 1000),
)
def test_the_share_with_the_lowest_loss_is_promoted(
    losses: dict[str, float], thousandths: int
) -> None:
    ranks = promote(quality(thousandths / 1000), losses)
    assert list(ranks) == list(losses)
    high = [losses[id] for id in losses if ranks[id] == 20]
    low = [losses[id] for id in losses if ranks[id] == 5]
    half_up = (thousandths * len(losses) + 500) // 1000
    assert (len(high), len(low)) == (max(1, half_up), len(losses) - max(1, half_up))
    if any(not math.isfinite(loss) for loss in high):
        assert not any(math.isfinite(loss) for loss in low)
    assert all(a <= b for a in high for b in low if math.isfinite(a) and math.isfinite(b))


@pytest.mark.parametrize(
    ("share", "losses", "promoted"),
    [
        ("10%", {"a": 2.0, "b": 1.0, "c": 3.0}, {"b"}),  # at least one
        ("50%", {"a": 2.0, "b": 1.0, "c": 3.0}, {"a", "b"}),  # half up
        ("50%", {"c": 1.0, "b": 1.0, "a": 2.0, "d": 1.0}, {"b", "c"}),  # ties by id
        ("50%", {"a": math.nan, "b": -math.inf, "c": 9.0, "d": 8.0}, {"c", "d"}),
        ("100%", {"a": math.nan, "b": 1.0}, {"a", "b"}),
    ],
)
def test_who_is_promoted(share: str, losses: dict[str, float], promoted: set[str]) -> None:
    assert {id for id, rank in promote(quality(share), losses).items() if rank == 20} == promoted
