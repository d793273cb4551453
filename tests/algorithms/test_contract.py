"""Every file in algorithms/ is held to these laws; there is no list to keep."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce

import pytest
import torch
from torch import Tensor

from polyrank.algorithm import State, merged
from polyrank.algorithms import about, names, options
from polyrank.lora.algebra import fold, regauge
from polyrank.messages import Client
from polyrank.server.norms import begun, moved
from tests.algorithms.federation import SHAPES, Federation

MIXED = [1, 2, 4]
EXACT = {"tau": 1.0}  # where some of the energy is cut away by default: none
VARIANTS = [
    *[(name, {k: v for k, v in EXACT.items() if k in options(name)}) for name in names()],
    ("replicate", {"fill": "mean"}),
]


@pytest.fixture(params=VARIANTS, ids=lambda v: "-".join([v[0], *map(str, v[1].values())]))
def make(request: pytest.FixtureRequest) -> Callable[..., Federation]:
    name, options = request.param

    def build(ranks: list[int] = MIXED, dtype: torch.dtype = torch.float64) -> Federation:
        return Federation(name, options, ranks, dtype)

    return build


@pytest.fixture
def fed(make: Callable[..., Federation]) -> Federation:
    return make()


def same(x: dict[str, Tensor], y: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    assert set(x) == set(y)
    for name in x:
        torch.testing.assert_close(x[name], y[name], atol=tolerance, rtol=tolerance)


def tensors_of(state: State) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, dict):
        return [t for value in state.values() for t in tensors_of(value)]
    if isinstance(state, (tuple, list)):
        return [t for value in state for t in tensors_of(value)]
    fields = getattr(state, "__dataclass_fields__", {})
    return [t for field in fields for t in tensors_of(getattr(state, field))]


def test_a_client_gets_its_own_rank_and_no_dead_slot(fed: Federation) -> None:
    for state in (fed.start, fed.later()):
        for client in fed.clients:
            start = fed.begin(state, client)
            assert fed.trains(state, client, start) == dict.fromkeys(SHAPES, client.rank)
            for f in start.values():
                assert ((f.a != 0).any(dim=1) | (f.b != 0).any(dim=0)).all()


def test_a_fresh_start_changes_nothing(fed: Federation) -> None:
    for client in fed.clients:
        for delta in fed.model(fed.start, client).values():
            assert not delta.any()


def test_unanimity(fed: Federation) -> None:
    top = max(fed.clients, key=lambda c: c.rank)
    one, model, _ = fed.trained(fed.start, top, seed=1)
    twins = [one, replace(one, client=Client("twin", top.rank), examples=9)]
    after = fed.aggregate(fed.start, twins)
    same(fed.delta(after), fed.expected(one, model))


def test_one_client_alone_returns_itself_at_a_later_round(
    make: Callable[..., Federation],
) -> None:
    fed = make([9, 9])  # enough rank for every layer: nothing is truncated
    state = fed.later()
    one, model, _ = fed.trained(state, fed.clients[0], seed=5)
    same(fed.delta(fed.aggregate(state, [one])), fed.expected(one, model), 1e-7)


def test_every_client_counts(fed: Federation) -> None:
    uploads = fed.uploads(fed.start)
    whole = fed.delta(fed.aggregate(fed.start, uploads))
    for i in range(len(uploads)):
        part = fed.delta(fed.aggregate(fed.start, uploads[:i] + uploads[i + 1 :]))
        assert any((whole[n] - part[n]).norm() > 1e-3 for n in SHAPES)


def test_the_order_of_uploads_does_not_matter(fed: Federation) -> None:
    for state in (fed.start, fed.later()):
        uploads = fed.uploads(state)
        same(
            fed.delta(fed.aggregate(state, uploads)),
            fed.delta(fed.aggregate(state, uploads[::-1])),
        )


def test_partial_aggregates_merge_in_any_grouping(make: Callable[..., Federation]) -> None:
    """A tree of servers gives the state of one."""
    fed = make([*MIXED, 3, 2])
    for state in (fed.start, fed.later()):
        uploads = fed.uploads(state)
        one, two, three = (
            reduce(partial(fed.algorithm.add, state), some, {})
            for some in (uploads[:2], uploads[2:3], uploads[3:])
        )
        whole = fed.delta(fed.aggregate(state, uploads))
        for tree in (
            merged(merged(one, two), three),
            merged(one, merged(two, three)),
            merged(merged({}, three), merged(merged(two, {}), one)),
        ):
            same(fed.delta(fed.algorithm.update(state, tree)[0]), whole)


def test_scale_is_a_gauge(fed: Federation) -> None:
    uploads = fed.uploads(fed.start)
    mixed = [
        replace(u, factors={n: regauge(f, 0.5 + i) for n, f in u.factors.items()})
        for i, u in enumerate(uploads)
    ]
    folded = [replace(u, factors={n: fold(f) for n, f in u.factors.items()}) for u in mixed]
    plain, once = fed.aggregate(fed.start, uploads), fed.aggregate(fed.start, mixed)
    same(fed.delta(plain), fed.delta(once))
    same(fed.delta(once), fed.delta(fed.aggregate(fed.start, folded)))


def test_uploads_are_read_once_and_nothing_is_modified(fed: Federation) -> None:
    state = fed.later()
    uploads = fed.uploads(state)
    before = copy.deepcopy((state, uploads))
    first, info = fed.algorithm.aggregate(state, (u for u in uploads))
    same(fed.delta(first), fed.delta(fed.aggregate(state, uploads)))
    for now, then in zip(tensors_of((state, uploads)), tensors_of(before), strict=True):
        assert torch.equal(now, then)
    json.dumps(info)


@pytest.mark.parametrize("ranks", [[1, 1], [1, 3], [9, 2], [12, 12]])
def test_rank_one_and_ranks_beyond_the_layer(
    make: Callable[..., Federation], ranks: list[int]
) -> None:
    fed = make(ranks)
    state = fed.later()
    for delta in fed.delta(state).values():
        assert torch.isfinite(delta).all()
        assert delta.any()


def test_a_layer_that_some_clients_do_not_adapt(fed: Federation) -> None:
    *others, whole = fed.uploads(fed.start)  # the last has the largest rank
    alone = fed.delta(fed.aggregate(fed.start, [whole]))
    only_q = [replace(u, factors={"q": u.factors["q"]}) for u in others]
    after = fed.delta(fed.aggregate(fed.start, [*only_q, whole]))
    same({"v": after["v"]}, {"v": alone["v"]})
    nobody = fed.delta(fed.aggregate(fed.start, only_q))
    same({"v": nobody["v"]}, {"v": fed.delta(fed.start)["v"]})
    assert (nobody["q"] - fed.delta(fed.start)["q"]).norm() > 1e-3


def test_a_round_in_which_nobody_replied_changes_nothing(fed: Federation) -> None:
    state = fed.later()
    after, info = fed.algorithm.aggregate(state, [])
    same(fed.delta(after), fed.delta(state), 0.0)
    json.dumps(info)


def test_dtype_is_kept(make: Callable[..., Federation]) -> None:
    for dtype in (torch.float32, torch.float64):
        assert {t.dtype for t in tensors_of(make(dtype=dtype).later())} == {dtype}


def test_weights_decide_how_much_a_client_counts(fed: Federation) -> None:
    """A weight set by the server wins over the number of examples, and a layer's over that."""
    one, two = (fed.upload(fed.start, c, seed=i) for i, c in enumerate(fed.clients[-2:]))
    by_data = fed.aggregate(fed.start, [replace(one, examples=1), replace(two, examples=3)])
    weighted = [replace(one, examples=7, weight=0.25), replace(two, examples=7, weight=0.75)]
    same(fed.delta(by_data), fed.delta(fed.aggregate(fed.start, weighted)))
    layered = [
        replace(one, by_layer={"q": 1.0, "v": 0.0}),
        replace(two, by_layer={"q": 0.0, "v": 1.0}),
    ]
    after, alone = fed.delta(fed.aggregate(fed.start, layered)), fed.aggregate(fed.start, [two])
    same({"v": after["v"]}, {"v": fed.delta(alone)["v"]})


def test_a_client_that_changes_rank_keeps_what_was_learned(make: Callable[..., Federation]) -> None:
    fed = make([1, 4, 9])
    if not about(fed.name).mixed:
        pytest.skip("equal ranks only")
    state = fed.later()
    fed.private.clear()
    for rank in (1, 4, 9):
        client = Client("c0", rank)  # from the pretrained base, so that all it holds is sent
        model, start = fed.model(state, client), fed.begin(state, client)
        assert set(fed.trains(state, client, start).values()) == {rank}
        for name, whole in fed.delta(state).items():
            if about(fed.name).personal:
                torch.testing.assert_close(start[name].a, whole[:rank])
            elif rank == 9:  # all of it fits
                torch.testing.assert_close(model[name], whole, atol=1e-9, rtol=1e-9)
            else:
                assert model[name].any()


def test_how_far_an_upload_moved_is_measured_from_where_its_client_began(fed: Federation) -> None:
    for rounds in (0, 2):
        state = fed.later(rounds) if rounds else fed.start
        for client in fed.clients:
            start, sent = (
                begun(fed.algorithm, state, client, fed.template),
                fed.algorithm.send(state, client),
            )
            assert moved(fed.upload(state, client, 1, change=0.0), start).factors < 1e-12
            upload, model, _ = fed.trained(state, client, 1)
            norm = moved(upload, start).factors
            if sent.up in ("ab", "core"):  # then it is that of the client's whole update
                before = fed.model(state, client)
                apart = sum(float((t - before[n]).square().sum()) for n, t in model.items()) ** 0.5
                assert norm == pytest.approx(apart, rel=1e-9)
            else:
                twice = fed.upload(state, client, 1, change=2.0)
                assert moved(twice, start).factors == pytest.approx(2 * norm, rel=1e-9)
                assert norm > 0
