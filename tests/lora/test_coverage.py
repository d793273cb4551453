"""The mean over those who train a direction, against what it minimises."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polyrank.lora import coverage
from polyrank.lora.coverage import Covered
from polyrank.lora.factor import Factor

OUT, IN = 7, 9
SEEDS, TRUST = st.integers(0, 2**31), st.sampled_from([0.01, 0.3, 0.9, 1.0])
RANKS = st.lists(st.integers(1, IN), min_size=1, max_size=4)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def terms(ranks: list[int], seed: int) -> list[Covered]:
    masses = drawn(seed, len(ranks)).exp()
    masses = masses / masses.sum()
    return [
        Covered(
            Factor(drawn(seed + 3 * i + 1, r, IN), masses[i] * drawn(seed + 3 * i + 2, OUT, r)),
            float(masses[i]),
            drawn(seed + 3 * i + 3, r, IN),
        )
        for i, r in enumerate(ranks)
    ]


def close(x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(x, y, atol=1e-9, rtol=1e-9)


def space(rows: Tensor) -> Tensor:
    return torch.linalg.pinv(rows) @ rows


@given(RANKS, SEEDS, TRUST)
def test_it_is_where_the_weighted_distance_has_no_slope(
    ranks: list[int], seed: int, trust: float
) -> None:
    some = terms(ranks, seed)
    u = coverage.mean(some, trust).delta.detach().requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for t in some:
        apart, inside = t.change.delta / t.mass - u, space(t.rows)
        outside = torch.eye(IN, dtype=torch.float64) - inside
        pull = (apart @ inside).square().sum() + trust * (apart @ outside).square().sum()
        loss = loss + t.mass * pull
    (slope,) = torch.autograd.grad(loss, u)
    assert float(slope.norm()) < 1e-8 * (1 + float(u.detach().norm()))


@given(RANKS, SEEDS, TRUST)
def test_equal_changes_and_equal_rows_are_averaged_plainly(
    ranks: list[int], seed: int, trust: float
) -> None:
    some = terms(ranks, seed)
    one = drawn(seed, OUT, IN)
    alike = [t._replace(change=Factor(torch.eye(IN).double(), t.mass * one)) for t in some]
    close(coverage.mean(alike, trust).delta, one)
    together = [t._replace(rows=some[0].rows) for t in some]
    plain = torch.stack([t.change.delta for t in some]).sum(dim=0)
    close(coverage.mean(together, trust).delta, plain)
    close(coverage.mean(some, 1.0).delta, plain)


@given(SEEDS)
def test_in_nested_slots_little_trust_is_the_mean_over_holders(seed: int) -> None:
    """What replication gives: slot j divided by the weight of those whose rank reaches it."""
    ranks, rows = (2, 5), torch.eye(IN, dtype=torch.float64)
    masses = (0.7, 0.3)
    parts = [drawn(seed + i, OUT, r) for i, r in enumerate(ranks)]
    some = [
        Covered(Factor(rows[:r], p * b), p, rows[:r])
        for r, p, b in zip(ranks, masses, parts, strict=True)
    ]
    held = torch.zeros(OUT, IN, dtype=torch.float64)
    held[:, :2] = masses[0] * parts[0] + masses[1] * parts[1][:, :2]
    held[:, 2:5] = parts[1][:, 2:]
    torch.testing.assert_close(coverage.mean(some, 1e-9).delta, held, atol=1e-7, rtol=1e-7)
