"""Best approximations in float32 against float64, whatever the spectrum and the way taken."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyrank.lora import applied, krylov, spectral
from polyrank.lora.algebra import stack, total, truncate, whole
from polyrank.lora.factor import Factor
from polyrank.lora.headed import headed, parts

KINDS = ("flat", "decaying", "steep", "clustered", "equal", "low rank", "nothing")
EPS = torch.finfo(torch.float32).eps


def spectrum(kind: str, size: int) -> Tensor:
    j = torch.arange(size, dtype=torch.float64)
    return {
        "flat": 1 - 0.3 * j / size,
        "decaying": (1 + j) ** -0.7,
        "steep": torch.exp(-0.4 * j),
        "clustered": 10.0 ** -torch.div(j, 9, rounding_mode="floor") * (1 + 1e-3 * torch.cos(j)),
        "equal": torch.where(j < 20, 1.0, 0.7 / (1 + 0.01 * j)),  # more alike than a block is wide
        "low rank": torch.where(j < 5, 2.0 - 0.2 * j, 0.0),
        "nothing": 0 * j,
    }[kind]


def update(values: Tensor, out: int, width: int, seed: int = 0) -> Factor:
    """A float32 factor with these singular values, its slots well mixed."""
    rng = torch.Generator().manual_seed(seed)

    def orthonormal(n: int) -> Tensor:
        return torch.linalg.qr(torch.randn(n, len(values), generator=rng, dtype=values.dtype)).Q

    mix, u, v = orthonormal(len(values)), orthonormal(out), orthonormal(width)
    return Factor((mix @ v.T).float(), (u * values @ mix.T).float())


def dense(f: Factor) -> Tensor:
    return f.scale * f.b.double() @ f.a.double()


def check_best(f: Factor, best: Factor, rank: int, allowed: float = 1e-4) -> None:
    """The error is the smallest possible, up to the share that is allowed or to precision."""
    exact = dense(f)
    smallest = torch.linalg.svdvals(exact)[rank:].norm()
    error = (exact - dense(best)).norm()
    assert float(error) <= float(smallest) * (1 + allowed) + 20 * EPS * float(exact.norm())
    sizes = best.b.norm(dim=0)
    kept = sizes > max(f.shape) * EPS * sizes[:1]  # recompress empties the others
    rows = best.a[kept].double()
    torch.testing.assert_close(
        rows @ rows.T, torch.eye(len(rows), dtype=torch.float64), atol=1e-3, rtol=0
    )
    assert (best.b.norm(dim=0).diff() <= 1e-6 * float(exact.norm())).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["core", "gram", "grown", "grown dense", "chosen"])
def test_every_way_is_accurate(way: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f, rank = update(spectrum(kind, 200), 300, 420), 8
    costs = spectral.Costs.of(f.shape, f.rank)
    force = {
        "core": costs._replace(gram=costs.core + 1, limit=0),
        "gram": costs._replace(core=costs.gram + 1, limit=0),
        "grown": costs._replace(column=0, start=0, core=1e99, gram=1e99, dense=False),
        "grown dense": costs._replace(column=0, start=0, core=1e99, gram=1e99, dense=True),
        "chosen": costs,
    }[way]
    monkeypatch.setattr(spectral.Costs, "of", lambda shape, s: force)
    assert force.worth(rank) == way.startswith("grown") or way == "chosen"
    check_best(f, spectral.recompress(f, rank), rank)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(KINDS), st.integers(1, 40), st.integers(0, 2**31), st.booleans(),
    st.floats(0.1, 3),
)  # fmt: skip
def test_what_is_grown_is_accurate_for_any_rank(
    kind: str, rank: int, seed: int, tall: bool, decay: float
) -> None:
    shape = (640, 200) if tall else (260, 512)
    f = update(spectrum(kind, 180) ** decay, *shape, seed)
    operator = krylov.Operator(
        lambda x: f.b @ (f.a @ x), lambda y: f.a.mT @ (f.b.mT @ y), f.a, f.shape
    )
    found = krylov.leading(operator, rank, min(shape))
    if found is not None:  # None: to be decomposed whole
        u, s, vt = found
        check_best(f, Factor(vt, u * s), rank)


def test_no_value_of_as_many_equal_ones_as_the_rank_stays_hidden() -> None:
    f = update(spectrum("equal", 180), 700, 700, seed=2138107096)
    found = krylov.leading(applied.operator([f], dense=False), 20, 700)
    assert found is not None
    u, s, vt = found
    check_best(f, Factor(vt, u * s), 20)


@pytest.mark.parametrize("able", [True, False])
def test_several_factors_are_one_operator(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By wide products of a copy, which the next operator overwrites, or one after another."""
    if able and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr("polyrank.lora.products.able", lambda: able)
    kinds = ("decaying", "flat", "steep")
    for some in (
        [update(spectrum(k, 9), 40, 30) for k in kinds],
        [update(spectrum("flat", 5), 60, 20)],
    ):
        scaled = [Factor(f.a, f.b, 0.5 + i) for i, f in enumerate(some)]
        exact = torch.stack([dense(f) for f in scaled]).sum(dim=0)
        found = applied.operator(scaled, dense=False)
        x, y = torch.randn(exact.shape[1], 3), torch.randn(exact.shape[0], 4)
        torch.testing.assert_close(found.across(x).double(), exact @ x.double(), atol=1e-4, rtol=0)
        torch.testing.assert_close(found.back(y).double(), exact.T @ y.double(), atol=1e-4, rtol=0)


def test_too_few_directions_are_no_answer() -> None:
    f = update(spectrum("flat", 200), 300, 420)
    operator = krylov.Operator(
        lambda x: f.b @ (f.a @ x), lambda y: f.a.mT @ (f.b.mT @ y), f.a, f.shape
    )
    assert krylov.leading(operator, 8, most=24) is None


def test_the_cost_model_grows_a_space_where_that_is_far_less_work() -> None:
    def factors(out: int, width: int, rank: int) -> list[Factor]:
        return [Factor(torch.empty(rank, width), torch.empty(out, rank))]

    assert spectral.leads(factors(4096, 4096, 2480), 64)
    assert spectral.leads(factors(4096, 4096, 4096 + 64), 16)
    assert not spectral.leads(factors(4096, 4096, 100), 64)  # the core is small
    assert not spectral.leads(factors(384, 384, 2480), 64)  # the layer is small
    assert not spectral.leads(factors(4096, 4096, 2480), 1000)
    double = Factor(torch.empty(2480, 4096).double(), torch.empty(4096, 2480).double())
    assert not spectral.leads([double], 64)  # the reference


def test_the_order_of_clients_changes_no_more_than_the_accuracy() -> None:
    rng = torch.Generator().manual_seed(3)
    clients = [update(spectrum("decaying", 4 + i % 5), 700, 600, seed=i) for i in range(90)]
    order = torch.randperm(len(clients), generator=rng).tolist()
    one, other = (
        stack([clients[i] for i in some], [0.1] * len(clients)) for some in (range(90), order)
    )
    rank = 4
    assert spectral.leads([one], rank)
    errors = [(dense(one) - dense(spectral.recompress(f, rank))).norm() for f in (one, other)]
    assert abs(float(errors[0] / errors[1]) - 1) < 1e-4


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 6), st.integers(1, 260), st.integers(0, 99))
def test_a_headed_update_is_exact_and_truncates_by_slicing(
    kind: str, rank: int, size: int, seed: int
) -> None:
    f = update(spectrum(kind, min(size, 250)), 250, 400, seed)
    h = headed(f, rank)
    scale = float(dense(f).norm())
    assert float((dense(h) - dense(f)).norm()) <= 400 * EPS * scale
    for r in range(1, rank + 1):
        check_best(f, truncate(h, r), r, allowed=2e-4)
    head, rest = parts(h, rank)
    assert float((dense(head) + dense(rest) - dense(f)).norm()) <= 400 * EPS * scale
    again = headed(total([head, rest]), rank)
    assert float((dense(again) - dense(f)).norm()) <= 800 * EPS * scale
    assert again.rank <= rank + 250


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_a_dense_update_is_a_factor_without_a_product(shape: tuple[int, int]) -> None:
    delta = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole(delta).delta, delta)
    assert whole(delta).rank == min(shape)
    assert torch.equal(Factor(whole(delta).a, whole(delta).b, 2.0).delta, 2 * delta)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(0, 99))
def test_total_is_exact_and_no_larger_than_the_layer(ranks: list[int], seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    factors = [
        Factor(*(torch.randn(s, generator=rng, dtype=torch.float64) for s in ((r, 5), (7, r))), 0.5)
        for r in ranks
    ]
    once = total(factors)
    torch.testing.assert_close(once.delta, torch.stack([f.delta for f in factors]).sum(dim=0))
    assert len(factors) == 1 or once.rank <= 5
    torch.testing.assert_close(total([once, *factors]).delta, 2 * once.delta)
