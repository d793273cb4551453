"""What the server knows of a round: truncation errors, weights and drift, against dense ones."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from polyrank.algorithm import State
from polyrank.algorithms import about, load, names
from polyrank.lora.factor import Factor, Factors
from polyrank.messages import Client, Upload
from polyrank.server.held import drift, errors, held, models
from polyrank.server.weighing import told, weighing
from tests.algorithms.dense import best, template, uploads
from tests.algorithms.federation import Federation

OF_EACH_ITS_OWN = ("fslora", "fed-plora", "fed-sb", "flora", "florist")  # by the client's id
SHARED = [name for name in names() if not about(name).personal]


def sizes(factors: Factors) -> dict[str, float]:
    return {n: float(f.delta.square().sum()) for n, f in factors.items()}


def learned(name: str) -> tuple[Federation, State]:
    fed = Federation(name, {}, [1, 2, 4])
    return fed, fed.later()


@pytest.mark.parametrize("name", SHARED)
def test_errors_are_those_of_the_models_that_clients_hold(name: str) -> None:
    """E from factors alone, and for a client that has it all from the folds, equals the dense."""
    fed, state = learned(name)
    whole = fed.delta(state)
    for client in fed.clients:
        model = held(fed.algorithm, state, client, fed.template)
        read = fed.algorithm.read(state)
        found = errors(model, read, sizes(read))
        for layer, mine in fed.model(state, client).items():
            lost = (whole[layer] - mine).square().sum() / whole[layer].square().sum()
            assert found[layer] == pytest.approx(float(lost), abs=2e-5)


@pytest.mark.parametrize("name", SHARED)
def test_drift_is_that_of_the_mean_model(name: str) -> None:
    fed, state = learned(name)
    whole, p = fed.delta(state), [0.2, 0.3, 0.5]
    models = [held(fed.algorithm, state, c, fed.template) for c in fed.clients]
    dense = [fed.model(state, c) for c in fed.clients]
    squares = 0.0
    for layer, w in whole.items():
        mean: Tensor = sum(x * m[layer] for x, m in zip(p, dense, strict=True))
        squares += float((mean - w).square().sum() / w.square().sum())
    read = fed.algorithm.read(state)
    found = drift(models, p, read, sizes(read))
    assert found == pytest.approx(squares**0.5, abs=5e-3)


@pytest.mark.parametrize("name", SHARED)
def test_clients_of_one_rank_that_start_alike_share_one_model(name: str) -> None:
    """So the server's memory does not grow with the clients of a round."""
    fed, state = learned(name)
    many = [replace(c, id=f"{c.id}-{i}") for c in fed.clients for i in range(3)]
    found = models(fed.algorithm, state, many, fed.template)
    for client in many:
        own = held(fed.algorithm, state, client, fed.template)
        assert found[client.id].keys() == own.keys()
        for layer, terms in own.items():
            for f, g in zip(found[client.id][layer], terms, strict=True):
                assert f.a.equal(g.a)
                assert f.b.equal(g.b)
    if name not in OF_EACH_ITS_OWN:
        assert len({id(model) for model in found.values()}) == len({c.rank for c in fed.clients})


def state_of(rank: int, others: int) -> tuple[State, dict[str, Factor]]:
    algorithm = load("fedhl")
    state, _ = algorithm.aggregate(algorithm.init(template(rank), 0), uploads([rank, others]))
    return state, algorithm.read(state)


def weights_of(text: str, sent: list[Upload], per_layer: bool = False) -> dict[str, object]:
    state, delta = state_of(7, 6)
    algorithm = load("fedhl")
    clients = [Client(u.client.id, u.client.rank, examples=u.examples) for u in sent]
    models = {c.id: held(algorithm, state, c, template(7)) for c in clients}
    how = weighing(text, per_layer, clients, models, delta)
    return {**told(how, [how(u) for u in sent], delta), "uploads": [how(u) for u in sent]}


def test_a_rounds_figures_by_hand() -> None:
    sent = uploads([1, 2, 2, 5], seed=1)
    _, delta = state_of(7, 6)
    before = delta["w"].delta
    info = weights_of("regularised(2)", sent)
    q = [u.examples / sum(u.examples for u in sent) for u in sent]
    e = [float((before - best(before, u.client.rank)).square().sum() / before.square().sum())
         for u in sent]  # fmt: skip
    mean = sum(x * y for x, y in zip(q, e, strict=True))
    raw = [x / (1 + 2 * y / mean) for x, y in zip(q, e, strict=True)]
    p = [x / sum(raw) for x in raw]
    assert list(info["weights"].values()) == pytest.approx(p)
    assert list(info["truncation"].values()) == pytest.approx(e)
    assert info["n_eff"] == pytest.approx(1 / sum(x**2 for x in p))
    assert info["bound"] == pytest.approx(sum(x**2 * y for x, y in zip(p, e, strict=True)))
    assert info["dilution"] == pytest.approx([1.0, p[1] + p[2] + p[3], *[p[3]] * 3])
    mixed = sum(x * best(before, u.client.rank) for x, u in zip(p, sent, strict=True))
    assert info["drift"] == pytest.approx(float((mixed - before).norm() / before.norm()))


def test_nested_truncations_drift_as_their_singular_values() -> None:
    """‖Σ p_i T_i − ΔW‖² = Σ_j σ_j²(1 − P_j)² = pᵀMp with M_ik = min(E_i, E_k)."""
    sent = uploads([1, 2, 4, 7], seed=1)
    info = weights_of("data", sent)
    _, delta = state_of(7, 6)
    sigma = torch.linalg.svdvals(delta["w"].delta)
    share = torch.zeros(6, dtype=torch.float64)
    held_by = torch.tensor(info["dilution"][:6], dtype=torch.float64)
    share[: len(held_by)] = held_by
    square = (sigma.square() * (1 - share).square()).sum() / sigma.square().sum()
    assert info["drift"] ** 2 == pytest.approx(float(square))
    p = torch.tensor(list(info["weights"].values()), dtype=torch.float64)
    e = torch.tensor(list(info["truncation"].values()), dtype=torch.float64)
    overlap = torch.minimum(e[:, None], e[None])
    assert info["drift"] ** 2 == pytest.approx(float(p @ overlap @ p))


def test_uniform_and_norm() -> None:
    sent = uploads([2, 4, 7], seed=1)
    assert list(weights_of("uniform", sent)["weights"].values()) == pytest.approx([1 / 3] * 3)
    norms = [float(u.factors["w"].delta.norm()) for u in sent]
    expected = [x / sum(norms) for x in norms]
    assert list(weights_of("norm", sent)["weights"].values()) == pytest.approx(expected)


def test_few_deciding_clients_are_warned_of() -> None:
    literal = weights_of("fedhl(2)", uploads([7] + [1] * 9, seed=1))
    assert literal["n_eff"] < 2.5
    assert "of 10 clients" in literal["warning"]
    assert "warning" not in weights_of("fedhl(2)", uploads([3] * 10, seed=1))


def test_each_layer_by_its_own_error() -> None:
    info = weights_of("regularised", uploads([1, 7], seed=1), per_layer=True)
    for upload in info["uploads"]:
        assert upload.by_layer["w"] == pytest.approx(upload.weight)  # there is one layer only


def test_a_round_without_uploads_tells_nothing() -> None:
    _, delta = state_of(7, 6)
    assert told(weighing("data", False, [], {}, delta), [], delta) == {}
