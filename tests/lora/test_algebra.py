"""The laws in the algebra's docstrings, against dense float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from polyrank.errors import RankError
from polyrank.lora import algebra, spectral
from polyrank.lora.factor import Factor

OUT, IN = 7, 5


@st.composite
def factors(draw: st.DrawFn, out: int = OUT, width: int = IN) -> Factor:
    rank = draw(st.integers(0, 9))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    a = torch.randn(rank, width, generator=rng, dtype=torch.float64)
    b = torch.randn(out, rank, generator=rng, dtype=torch.float64)
    return Factor(a, b, draw(st.floats(0.1, 4)))


def close(x: torch.Tensor, y: torch.Tensor) -> None:
    torch.testing.assert_close(x, y, atol=1e-10, rtol=1e-10)


@given(factors())
def test_fold_keeps_the_update_and_drops_the_scale(f: Factor) -> None:
    close(algebra.fold(f).delta, f.delta)
    assert algebra.fold(f).scale == 1


@given(factors(), st.floats(0.01, 100))
def test_regauge_keeps_the_update(f: Factor, scale: float) -> None:
    g = algebra.regauge(f, scale)
    close(g.delta, f.delta)
    assert g.scale == scale


@given(factors(), st.integers(0, 5))
def test_pad_keeps_the_update_and_truncate_undoes_it(f: Factor, extra: int) -> None:
    padded = algebra.pad(f, f.rank + extra)
    assert padded.rank == f.rank + extra
    close(padded.delta, f.delta)
    back = algebra.truncate(padded, f.rank)
    assert torch.equal(back.a, f.a)
    assert torch.equal(back.b, f.b)


@given(factors(), st.integers(1, 12))
def test_resize_has_exactly_the_rank(f: Factor, rank: int) -> None:
    assert algebra.resize(f, rank).rank == rank


@given(st.lists(factors(), min_size=1, max_size=4), st.data())
def test_stack_is_the_exact_weighted_sum(fs: list[Factor], data: st.DataObject) -> None:
    weights = [data.draw(st.floats(-2, 2)) for _ in fs]
    total = algebra.stack(fs, weights)
    close(total.delta, sum(w * f.delta for w, f in zip(weights, fs, strict=True)))
    assert total.rank == sum(f.rank for f in fs)


@given(factors(), st.integers(1, 9))
def test_recompress_is_the_best_approximation(f: Factor, rank: int) -> None:
    best = spectral.recompress(f, rank)
    tail = torch.linalg.svdvals(f.delta)[rank:].norm()
    close((f.delta - best.delta).norm(), tail)
    assert best.rank <= rank


@given(factors())
def test_recompress_without_a_rank_is_lossless_and_in_order(f: Factor) -> None:
    g = spectral.recompress(f)
    close(g.delta, f.delta)
    sizes = g.b.norm(dim=0)
    assert (sizes.diff() <= 1e-12).all()
    kept = int((sizes > 0).sum())
    close(g.a[:kept] @ g.a[:kept].T, torch.eye(kept, dtype=torch.float64))


def test_recompress_empties_slots_below_precision() -> None:
    f = Factor(torch.ones(3, IN), torch.ones(OUT, 3))  # rank one, written in three slots
    g = spectral.recompress(f)
    assert int((g.b.norm(dim=0) > 0).sum()) == 1
    assert not g.a[1:].any()


@given(factors(), factors())
def test_inner_and_norm_equal_the_dense_ones(f: Factor, g: Factor) -> None:
    close(algebra.inner(f, g), (f.delta * g.delta).sum())
    torch.testing.assert_close(algebra.norm(f), f.delta.norm(), atol=1e-7, rtol=1e-9)


@given(factors())
def test_singular_values_equal_the_dense_ones(f: Factor) -> None:
    ours, dense = spectral.singular_values(f), torch.linalg.svdvals(f.delta)
    close(ours, dense[: len(ours)])
    assert not dense[len(ours) :].gt(1e-10).any()


@given(factors())
def test_refill_changes_no_update_and_leaves_no_dead_slot(f: Factor) -> None:
    padded = algebra.pad(f, f.rank + 3)
    rows = torch.ones_like(padded.a)
    g = algebra.refill(padded, rows)
    close(g.delta, padded.delta)
    assert ((g.a != 0).any(dim=1) | (g.b != 0).any(dim=0)).all()


@given(st.lists(factors(), min_size=1, max_size=12))
def test_append_keeps_the_sum_in_bounded_memory(fs: list[Factor]) -> None:
    parts: list[Factor] = []
    for f in fs:
        parts = algebra.append(parts, f)
        assert sum(p.rank for p in parts) <= 2 * min(OUT, IN)
    close(sum(p.delta for p in parts), sum(f.delta for f in fs))


def test_mismatched_ranks_are_refused() -> None:
    with pytest.raises((RankError, TypeCheckError)):  # the latter where shapes are checked
        Factor(torch.zeros(2, IN), torch.zeros(OUT, 3))
    with pytest.raises(RankError, match="cannot pad rank 3 to the smaller rank 2"):
        algebra.pad(Factor(torch.zeros(3, IN), torch.zeros(OUT, 3)), 2)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_factor_wider_than_its_layer_is_recompressed_as_exactly(
    shape: tuple[int, int], decay: float
) -> None:
    """Float32 goes by the Gram matrix there; float64 by the core is the reference."""
    rng = torch.Generator().manual_seed(0)
    size = torch.exp(-decay * torch.arange(40.0))
    a = torch.randn(40, shape[1], generator=rng) * size[:, None]
    f = Factor(a, torch.randn(shape[0], 40, generator=rng))
    exact = spectral.recompress(Factor(f.a.double(), f.b.double()))
    got = spectral.recompress(f)
    scale = float(exact.delta.norm())
    assert float((got.delta - f.delta).norm()) < 1e-5 * scale
    kept = got.b.any(dim=0)
    rows = got.a[kept]
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-3, rtol=0)
    for rank in (1, 3, 8):
        lost = (algebra.truncate(got, rank).delta - f.delta).norm()
        best = (algebra.truncate(exact, rank).delta - f.delta.double()).norm()
        assert float(lost) <= float(best) * (1 + 1e-4) + 1e-6 * scale
    rank_two = algebra.stack([algebra.truncate(f, 2)] * 20, [1.0] * 20)
    assert int(spectral.recompress(rank_two).b.any(dim=0).sum()) == 2


@given(factors())
def test_halves_puts_and_takes(f: Factor) -> None:
    assert torch.equal(algebra.half(f, "a").a, f.a)
    assert algebra.half(f, "a").b.shape == (0, f.rank)
    assert algebra.half(f, "b").a.shape == (f.rank, 0)
    close(algebra.take(f, range(f.rank)).delta, f.delta)
    some = list(range(0, f.rank, 2))
    part = algebra.take(f, some)
    doubled = Factor(2 * part.a, part.b, 3 * part.scale)
    put = algebra.put(f, some, doubled)
    close(algebra.take(put, some).delta, doubled.delta)
    rest = [j for j in range(f.rank) if j not in some]
    close(algebra.take(put, rest).delta, algebra.take(f, rest).delta)


@given(factors())
def test_a_dense_update_as_a_factor(f: Factor) -> None:
    got = spectral.factored(f.delta)
    close(got.delta, f.delta)
    falling = got.b.norm(dim=0)
    assert (falling[:-1] >= falling[1:] - 1e-12).all()
