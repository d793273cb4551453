"""Where the server holds the exact mean: fedex-lora and fed-sb, and one-sided algorithms."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyrank.algorithm import State
from polyrank.algorithms import load
from polyrank.client.start import begin
from polyrank.errors import RankError
from polyrank.lora.factor import Factor
from polyrank.messages import Client, Upload
from tests.algorithms.dense import IN, OUT, best, close, mean, template, uploads
from tests.algorithms.federation import SHAPES, Federation

COUNTS = st.lists(st.integers(1, 50), min_size=1, max_size=5)  # examples of each client


def played(fed: Federation, state: State, seed: int) -> tuple[State, dict[str, Tensor]]:
    """A round of everybody: the new state, and the exact mean of the models they ended with."""
    sent: list[Upload] = []
    models: list[dict[str, Tensor]] = []
    for i, client in enumerate(fed.clients):
        version = fed.algorithm.send(state, client).version
        upload, model, private = fed.trained(state, client, seed + i, examples=1 + 2 * i)
        sent, models = [*sent, upload], [*models, model]
        fed.private[client.id] = private
        fed.clients[i] = replace(client, seen=version)
    total = sum(u.examples for u in sent)
    exact = {
        n: sum(u.examples / total * m[n] for u, m in zip(sent, models, strict=True)) for n in SHAPES
    }
    return fed.aggregate(state, sent), exact


@pytest.mark.parametrize("name", ["ffa-lora", "rolora", "fedex-lora", "fed-sb"])
@given(clients=st.integers(1, 3), rank=st.integers(1, 4))
@settings(deadline=None, max_examples=12)  # there are no more
def test_the_server_holds_the_exact_mean_of_the_clients_models(
    name: str, clients: int, rank: int
) -> None:
    fed = Federation(name, {}, [rank] * clients)
    state = fed.start
    for t in range(4):
        state, exact = played(fed, state, seed=10 * t)
        for n, delta in fed.delta(state).items():
            first = name == "fed-sb" and t == 0  # whose first round finds the subspace
            close(delta, best(exact[n], rank) if first else exact[n])
        for client in fed.clients:  # and everybody starts the next round from it
            for n, model in fed.model(state, client).items():
                close(model, fed.delta(state)[n])


@pytest.mark.parametrize("shape", [(OUT, IN), (IN, IN)], ids=["non-square", "square"])
@given(examples=COUNTS, rank=st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_fedex_is_the_dense_reference(
    shape: tuple[int, int], examples: list[int], rank: int
) -> None:
    """A transposed residual, as published, has the wrong shape, or on a square layer is wrong."""
    algorithm = load("fedex-lora")
    out, width = shape
    state = algorithm.init({n: Factor(f.a, f.b[:out]) for n, f in template(rank).items()}, 0)
    base = torch.zeros(out, width, dtype=torch.float64)
    for t in range(3):
        sent = [_cut(u, out) for u in uploads([rank] * len(examples), examples, seed=t)]
        total = sum(examples)
        a = sum(u.examples / total * u.factors["w"].a for u in sent)
        b = sum(u.examples / total * u.factors["w"].scale * u.factors["w"].b for u in sent)
        state, _ = algorithm.aggregate(state, sent)
        close(algorithm.read(state)["w"].delta, base + mean(sent))
        base = base + mean(sent) - b @ a
        down = algorithm.send(state, Client("c", rank))
        close(down.start["w"].a, a)  # as FedIT
        close(down.start["w"].b, b)
        close(down.fold["w"].delta, base)


def _cut(upload: Upload, out: int) -> Upload:
    f = upload.factors["w"]
    return replace(upload, factors={"w": Factor(f.a, f.b[:out], f.scale)})


def test_fedex_sends_each_client_what_its_base_lacks() -> None:
    algorithm = load("fedex-lora")
    state = algorithm.init(template(1), 0)
    bases = [torch.zeros(OUT, IN, dtype=torch.float64)]
    for t in range(5):
        state, info = algorithm.aggregate(state, uploads([1, 1], seed=t))
        assert info["residual"] == 3  # S + r
        bases.append(algorithm.send(state, Client("new", 1)).fold["w"].delta)
    for seen in range(6):
        sent = algorithm.send(state, Client("c", 1, seen=seen))
        folded = sent.fold["w"].delta if sent.fold else 0
        close((bases[sent.since] if sent.since else 0 * bases[0]) + folded, bases[-1])
        assert sent.version == 5
        assert sum(f.rank for f in sent.fold.values()) <= min(OUT, IN)
    assert algorithm.send(state, Client("c", 1, seen=4)).fold["w"].rank == 3


@pytest.mark.parametrize("name", ["fedex-lora", "fed-sb"])
def test_mixed_ranks_are_refused_by_name(name: str) -> None:
    algorithm = load(name)
    with pytest.raises(
        RankError, match=rf"{name} averages .* 'c1' sent rank 2 for w.* has 4; use replicate"
    ):
        algorithm.aggregate(algorithm.init(template(4), 0), uploads([4, 2]))


def cores(rank: int, examples: list[int], seed: int) -> list[Upload]:
    rng = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(rank, rank, generator=rng, dtype=torch.float64) for _ in examples]
    return [
        Upload(Client(f"c{i}", rank), {"w": Factor(c, c[:0])}, n)
        for i, (c, n) in enumerate(zip(drawn, examples, strict=True))
    ]


@given(examples=COUNTS, rank=st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_fed_sb_averages_cores_between_orthonormal_sides(examples: list[int], rank: int) -> None:
    algorithm = load("fed-sb")
    sent = uploads([rank] * len(examples), examples)
    state, _ = algorithm.aggregate(algorithm.init(template(rank), 0), sent)
    close(algorithm.read(state)["w"].delta, best(mean(sent), rank))
    sides = algorithm.send(state, Client("new", rank)).start["w"]
    close(sides.b.T @ sides.b, torch.eye(rank).double())
    close(sides.a @ sides.a.T, torch.eye(rank).double())
    for t in range(2):
        sent = cores(rank, examples, seed=t)
        state, _ = algorithm.aggregate(state, sent)
        total = sum(examples)
        exact = sum(u.examples / total * sides.b @ u.factors["w"].a @ sides.a for u in sent)
        close(algorithm.read(state)["w"].delta, exact)


def test_fed_sb_sends_the_sides_once_and_then_cores() -> None:
    algorithm = load("fed-sb")
    state = algorithm.init(template(4), 0)
    first = [algorithm.send(state, Client(id, 4)) for id in "xy"]
    assert not any(d.start or d.core or d.fold for d in first)  # rows of A come from a seed
    one, two = (begin(d, Client("x", 4), template(4))["w"] for d in first)
    assert not torch.equal(one.a, two.a)  # of each client's own
    state, _ = algorithm.aggregate(state, uploads([4, 4]))
    for seen in (0, 1):
        sent = algorithm.send(state, Client("x", 4, seen=seen))
        assert (sent.train, sent.keep, sent.since, sent.version) == ("core", "ab", seen, 1)
        assert sent.core["w"].shape == (4, 4)
        assert bool(sent.start) == (seen == 0)


def test_fed_sb_fills_the_directions_that_the_first_update_lacks() -> None:
    """One client of a rank-one update: the other three directions of each side can be used."""
    [u] = uploads([4])
    f = u.factors["w"]
    thin = replace(u, factors={"w": Factor(f.a, f.b * torch.tensor([1.0, 0, 0, 0]), f.scale)})
    algorithm = load("fed-sb")
    state, _ = algorithm.aggregate(algorithm.init(template(4), 0), [thin])
    close(algorithm.read(state)["w"].delta, mean([thin]))
    sides = algorithm.send(state, Client("new", 4)).start["w"]
    [full] = cores(4, [1], seed=0)
    state, _ = algorithm.aggregate(state, [full])
    assert torch.linalg.matrix_rank(algorithm.read(state)["w"].delta) == 4
    close(sides.b.T @ sides.b, torch.eye(4).double())


def test_fed_sb_waits_for_a_first_update() -> None:
    algorithm = load("fed-sb")
    state = algorithm.init(template(4), 0)
    assert algorithm.aggregate(state, [])[0] == state
    assert algorithm.send(state, Client("x", 4)).train == "ab"
