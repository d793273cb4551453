"""The benchmark's methods against a dense float64 reference, and the reference itself."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from bench import uploads
from bench.methods import FLEXLORA, METHODS, ONE_PASS, OURS, QR_CORE, SVD
from bench.peers import Upload
from bench.uploads import Case

TRAINING = Case(48, 40, 10, rank=4, ranks=(1, 2, 4))
FLAT = TRAINING._replace(spectrum="flat")
MANY = TRAINING._replace(clients=60)  # stacked, they are wider than the layer
CASES = [TRAINING, FLAT, MANY]


def given(case: Case) -> tuple[list[Upload], list[float]]:
    tensors = uploads.make(case)
    pairs = [(tensors[f"b.{k}"], tensors[f"a.{k}"]) for k in range(case.clients)]
    return pairs, tensors["weights"].tolist()


def dense(pairs: Sequence[Upload], weights: Sequence[float]) -> Tensor:
    parts = [w * b.double() @ a.double() for (b, a), w in zip(pairs, weights, strict=True)]
    return torch.stack(parts).sum(dim=0)


@pytest.mark.parametrize("case", CASES)
def test_the_reference_is_that_of_a_dense_svd(case: Case) -> None:
    pairs, weights = given(case)
    values = torch.linalg.svdvals(dense(pairs, weights))
    best = uploads.best(pairs, weights, case.rank)
    assert best.square == pytest.approx(float(values.square().sum()), rel=1e-9)
    assert best.tail == pytest.approx(float(values[case.rank :].square().sum()), rel=1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", METHODS)
def test_the_error_is_that_of_a_dense_difference(case: Case, name: str) -> None:
    pairs, weights = given(case)
    b, a = METHODS[name].run(pairs, weights, case.rank)
    best = uploads.best(pairs, weights, case.rank)
    difference = (dense(pairs, weights) - b.double() @ a.double()).norm()
    wanted = float(difference) / best.tail**0.5 - 1
    assert uploads.excess(pairs, weights, (b, a), best) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [FLEXLORA, QR_CORE, OURS, ONE_PASS])
def test_what_claims_the_best_is_the_best(case: Case, name: str) -> None:
    pairs, weights = given(case)
    found = METHODS[name].run(pairs, weights, case.rank)
    best = uploads.best(pairs, weights, case.rank)
    assert len(found[1]) == case.rank
    assert abs(uploads.excess(pairs, weights, found, best)) < 1e-4


def test_randomised_svd_is_nearly_the_best() -> None:
    pairs, weights = given(TRAINING)
    best = uploads.best(pairs, weights, TRAINING.rank)
    found = METHODS[SVD].run(pairs, weights, TRAINING.rank)
    assert 0 <= uploads.excess(pairs, weights, found, best) + 1e-6 < 0.05


@pytest.mark.parametrize("name", ["flora", "stack"])
def test_stacking_is_the_exact_sum(name: str) -> None:
    pairs, weights = given(TRAINING)
    b, a = METHODS[name].run(pairs, weights, TRAINING.rank)
    assert len(a) == sum(len(a) for _, a in pairs)
    torch.testing.assert_close(b.double() @ a.double(), dense(pairs, weights), rtol=0, atol=1e-6)


def test_zero_padding_averages_the_padded_factors() -> None:
    pairs, weights = given(TRAINING)
    found_b, found_a = METHODS["zero_padding"].run(pairs, weights, TRAINING.rank)
    b, a = torch.zeros(48, 4, dtype=torch.float64), torch.zeros(4, 40, dtype=torch.float64)
    for (own_b, own_a), w in zip(pairs, weights, strict=True):
        b[:, : len(own_a)] += w * own_b.double()
        a[: len(own_a)] += w * own_a.double()
    torch.testing.assert_close(found_b.double(), b, rtol=0, atol=1e-6)
    torch.testing.assert_close(found_a.double(), a, rtol=0, atol=1e-6)


def test_replication_averages_over_those_who_hold_a_slot() -> None:
    pairs, weights = given(TRAINING)
    found_b, found_a = METHODS["replication"].run(pairs, weights, TRAINING.rank)
    for slot in range(TRAINING.rank):
        held = [(b, a, w) for (b, a), w in zip(pairs, weights, strict=True) if len(a) > slot]
        total = sum(w for _, _, w in held)
        for found, one in (
            (found_b[:, slot], sum(w * b[:, slot].double() for b, _, w in held) / total),
            (found_a[slot], sum(w * a[slot].double() for _, a, w in held) / total),
        ):
            torch.testing.assert_close(found.double(), one, rtol=0, atol=1e-5)


def test_uploads_do_not_change_while_they_are_aggregated() -> None:
    pairs, weights = given(TRAINING)
    before = [(b.clone(), a.clone()) for b, a in pairs]
    for method in METHODS.values():
        method.run(pairs, weights, TRAINING.rank)
    for (b, a), (old_b, old_a) in zip(pairs, before, strict=True):
        assert torch.equal(b, old_b)
        assert torch.equal(a, old_a)
