"""Sums over slots that a client names itself, and the choice of slots."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from polyrank.lora.algebra import fold, ridge, take
from polyrank.lora.factor import Factor
from polyrank.lora.slots import add, by_holders, choose, empty

RANK, IN, OUT = 5, 4, 3


def factor(rank: int, seed: int, scale: float = 1.0) -> Factor:
    rng = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, IN, generator=rng, dtype=torch.float64)
    return Factor(a, torch.randn(OUT, rank, generator=rng, dtype=torch.float64), scale)


@given(st.lists(st.integers(0, RANK - 1), unique=True, min_size=1), st.integers(0, 9))
def test_a_factor_is_added_where_it_says(at: list[int], seed: int) -> None:
    f, before = factor(len(at), seed, scale=0.5), factor(RANK, 99)
    sums = add(empty(before), f, 2.0, at)
    mean = by_holders(sums, before)
    torch.testing.assert_close(take(mean, at).a, f.a)
    torch.testing.assert_close(take(mean, at).b, fold(f).b)
    others = [j for j in range(RANK) if j not in at]
    assert torch.equal(take(mean, others).b, take(before, others).b)
    assert sums.held.tolist() == [2.0 if j in at else 0.0 for j in range(RANK)]


@given(st.integers(1, RANK))
def test_the_leading_slots_are_meant_where_none_are_named(rank: int) -> None:
    f, like = factor(rank, 1, scale=3.0), factor(RANK, 99)
    plain, named = add(empty(like), f, 1.5), add(empty(like), f, 1.5, range(rank))
    assert torch.equal(plain.a, named.a)
    assert torch.equal(plain.b, named.b)
    assert torch.equal(plain.held, named.held)
    assert plain.total == named.total == 1.5


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 99))
def test_a_choice_is_ascending_and_repeats(rank: int, count: int, seed: int) -> None:
    slots = choose(rank, count, seed, "here", 3)
    assert list(slots) == sorted(set(slots))
    assert len(slots) == min(rank, count)
    assert set(slots) <= set(range(rank))
    assert slots == choose(rank, count, seed, "here", 3)


@given(st.integers(1, 7), st.floats(1e-3, 10.0), st.integers(0, 99))
def test_ridge_is_where_the_gradient_vanishes(rank: int, penalty: float, seed: int) -> None:
    f, a = factor(3, seed, scale=0.7), factor(rank, seed + 1).a
    b = ridge(f, a, penalty)
    gradient = (b @ a - f.delta) @ a.T + penalty * b
    torch.testing.assert_close(gradient, torch.zeros_like(b), atol=1e-9, rtol=0)


def test_ridge_gives_an_empty_row_an_empty_column() -> None:
    a = factor(3, 1).a
    a[1] = 0
    assert not ridge(factor(2, 0), a, 0.1)[:, 1].any()
