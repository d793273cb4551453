"""The laws of lora/folds, lora/sides and lora/equal, and of `framed`, against dense float64."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyrank.errors import RankError
from polyrank.lora import slots
from polyrank.lora.algebra import framed, half, pad, regauge, total
from polyrank.lora.equal import check_equal
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.folds import grown, lacking, unfolded
from polyrank.lora.sides import averaged, drawn, like, turn
from polyrank.lora.spectral import recompress

SHAPES = {"w": (7, 5), "v": (3, 8)}


def factor(name: str, rank: int, seed: int) -> Factor:
    rng = torch.Generator().manual_seed(seed)
    out, width = SHAPES[name]
    a, b = (
        torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((rank, width), (out, rank))
    )
    return Factor(a, b, 0.5)


def size(factors: Factors) -> int:
    return sum(f.a.numel() + f.b.numel() for f in factors.values())


def close(x: torch.Tensor, y: torch.Tensor) -> None:
    torch.testing.assert_close(x, y, atol=1e-10, rtol=1e-10)


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=6))
@example([(2, True), (2, True), (1, False)])  # the layer that rests has more than it can hold
@settings(deadline=None, max_examples=40)
def test_a_base_of_any_version_comes_to_the_base_of_now(rounds: list[tuple[int, bool]]) -> None:
    """Some rounds touch one layer only."""
    folds = unfolded({n: factor(n, 2, 0) for n in SHAPES})
    dense = {n: torch.zeros(s, dtype=torch.float64) for n, s in SHAPES.items()}
    history = [dense]
    for t, (rank, both) in enumerate(rounds):
        new = {n: factor(n, rank, t) for n in (SHAPES if both else ["w"])}
        folds = grown(folds, new)
        dense = {n: d + new[n].delta if n in new else d for n, d in dense.items()}
        history.append(dense)
    for seen in range(len(rounds) + 1):
        since, fold = lacking(folds, seen)
        assert since in (0, seen)
        if len(rounds) - seen > 1:  # what one round made is sent as it is
            assert size(fold) <= size(folds.merged)
        for n in SHAPES:
            close(history[since][n] + (fold[n].delta if n in fold else 0), dense[n])
            close(folds.merged[n].delta, dense[n])
            assert folds.merged[n].rank <= min(SHAPES[n])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_total_is_exact_and_no_larger_than_the_layer(ranks: list[int]) -> None:
    factors = [factor("w", r, i) for i, r in enumerate(ranks)]
    whole = total(factors)
    close(whole.delta, sum(f.delta for f in factors))
    assert whole.rank == min(sum(ranks), 5)


@given(st.integers(0, 4), st.integers(1, 9))
def test_framed_sides_are_orthonormal_and_keep_the_update(learned: int, rank: int) -> None:
    thin = recompress(factor("w", learned, 1))
    padded = regauge(pad(thin, max(rank, learned)), 0.5)
    other = factor("w", padded.rank, 2)
    sides, core = framed(padded, other.a, other.b)
    close(sides.b @ core @ sides.a, padded.delta)
    k = min(padded.rank, 5)
    close(sides.a[:k] @ sides.a[:k].T, torch.eye(k).double())
    k = min(padded.rank, 7)
    close(sides.b[:, :k].T @ sides.b[:, :k], torch.eye(k).double())
    assert sides.rank == padded.rank
    if not learned:  # then the sides are the given directions
        close(other.a @ sides.a.T @ sides.a, other.a)
        close(sides.b @ sides.b.T @ other.b, other.b)


def test_sides_take_turns_and_the_other_one_stays() -> None:
    assert [turn(t) for t in range(3)] == [("b", "a"), ("a", "b"), ("b", "a")]
    before = drawn({n: factor(n, 3, 0) for n in SHAPES}, seed=1)
    assert all(f.a.any(dim=1).all() and not f.b.any() for f in before.values())
    for side, other in ((turn(0)), (turn(1))):
        same = averaged(before, {}, side)
        assert all(torch.equal(same[n].a, f.a) for n, f in before.items())
        empty = {n: slots.empty(f) for n, f in like(before, side).items()}
        assert all(s.total == 0 and s.held.shape == (3,) for s in empty.values())
        still = averaged(before, empty, side)
        assert all(torch.equal(still[n].a, f.a) for n, f in before.items())
        assert all(half(f, other).shape != f.shape for f in before.values())


def test_another_rank_is_refused_by_name() -> None:
    held = {n: factor(n, 3, 0) for n in SHAPES}
    check_equal("fedit", "c0", held, held)
    with pytest.raises(
        RankError, match=r"fedit averages .* client 'c1' sent rank 2 for v, the .* 3"
    ):
        check_equal("fedit", "c1", {"v": factor("v", 2, 0)}, held)
