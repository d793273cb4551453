"""Uploads are taken as they come: what a server holds does not grow with their number."""

from collections.abc import Iterator

import pytest
import torch

from polyrank.algorithm import Partial, State
from polyrank.algorithms import names
from polyrank.lora.factor import Factor
from polyrank.messages import Upload
from tests.algorithms.federation import Federation
from tests.algorithms.test_contract import tensors_of

STACKS = {"flora"}  # what it sends on is the stack of all uploads
POOL = 40  # different uploads; then they come again from other clients


def uploads(fed: Federation, state: State, count: int) -> Iterator[Upload]:
    """Very many, of mixed ranks, made one at a time."""
    made = fed.uploads(state)
    for i in range(count):
        one = made[i % len(made)]
        # One object for each, as if it had been read from the wire.
        factors = {n: Factor(f.a.clone(), f.b.clone(), f.scale) for n, f in one.factors.items()}
        yield Upload(one.client, factors, one.examples, slots=one.slots)


def held(fed: Federation, state: State, count: int) -> tuple[int, Partial]:
    """(the most bytes that a partial aggregate holds on the way, the last one)."""
    partial: Partial = {}
    most = 0
    for i, upload in enumerate(uploads(fed, state, count)):
        partial = fed.algorithm.add(state, partial, upload)
        if i % 7:
            continue
        storages = {t.untyped_storage().data_ptr(): t for t in tensors_of(partial)}
        most = max(most, sum(t.untyped_storage().nbytes() for t in storages.values()))
    return most, partial


def federation(name: str) -> Federation:
    ranks = [(1, 2, 4, 8)[i % 4] for i in range(POOL)]
    return Federation(name, {}, ranks, torch.float32)


@pytest.mark.parametrize("name", [n for n in names() if n not in STACKS])
def test_many_uploads_take_the_memory_of_a_hundred(name: str) -> None:
    fed = federation(name)
    for state in (fed.start, fed.round(fed.start, seed=1)):
        assert held(fed, state, 300)[0] <= held(fed, state, 100)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["replicate", "catchup"])
def test_ten_thousand_uploads_take_the_memory_of_a_hundred(name: str) -> None:
    fed = federation(name)
    most, partial = held(fed, fed.start, 10_000)
    assert most <= held(fed, fed.start, 100)[0]
    few = fed.algorithm.update(fed.start, held(fed, fed.start, POOL)[1])[0]
    many = fed.delta(fed.algorithm.update(fed.start, partial)[0])
    for layer, delta in fed.delta(few).items():  # the same clients 250 times: the same mean
        torch.testing.assert_close(many[layer], delta, atol=1e-3, rtol=1e-3)


def test_the_pool_is_of_mixed_ranks() -> None:
    fed = federation("catchup")
    assert {u.client.rank for u in uploads(fed, fed.start, POOL)} == {1, 2, 4, 8}
