"""Every file in algorithms/ is held to these laws; there is no list to keep."""

import copy
import json
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

from polyrank.algorithm import Algorithm, State
from polyrank.algorithms import about, load, names
from polyrank.client.start import begin
from polyrank.lora.algebra import fold, regauge
from polyrank.lora.factor import Factor, Factors
from polyrank.messages import Client, Upload

SHAPES = {"q": (6, 5), "v": (4, 9)}  # (out, in): non-square both ways
MIXED = [1, 2, 4]
VARIANTS = [
    *[(name, {}) for name in names()],
    ("replicate", {"fill": "mean"}),
    *[("fedhl", {"weights": w}) for w in ("data", "fedhl", "coherent")],
    ("fedhl", {"weights": "fedhl", "kappa": 2.0}),
    ("fedhl", {"per_layer": True}),
]


class Federation:
    """An algorithm with the ranks it is tried on, and clients that change what they are sent."""

    def __init__(self, name: str, options: dict, ranks: list[int], dtype: torch.dtype) -> None:
        self.name, self.dtype = name, dtype
        self.algorithm: Algorithm = load(name, **options)
        if not about(name).mixed:
            ranks = [max(ranks)] * len(ranks)
        self.clients = [Client(f"c{i}", r) for i, r in enumerate(ranks)]
        top = max(ranks)
        self.template: Factors = {
            n: Factor(torch.zeros(top, i, dtype=dtype), torch.zeros(o, top, dtype=dtype))
            for n, (o, i) in SHAPES.items()
        }
        self.start: State = self.algorithm.init(self.template, 0)

    def begin(self, state: State, client: Client) -> Factors:
        return begin(self.algorithm.send(state, client), client, self.template)

    def upload(
        self, state: State, client: Client, seed: int, examples: int = 3, change: float = 1.0
    ) -> Upload:
        rng = torch.Generator().manual_seed(seed)
        download = self.algorithm.send(state, client)

        def moved(t: Tensor, which: str) -> Tensor:
            step = torch.randn(t.shape, generator=rng, dtype=t.dtype)
            return t + change * step if which in download.train else t.clone()

        factors = {
            n: Factor(moved(f.a, "a"), moved(f.b, "b"), f.scale)
            for n, f in begin(download, client, self.template).items()
        }
        return Upload(client, factors, examples)

    def uploads(self, state: State, seed: int = 0) -> list[Upload]:
        return [
            self.upload(state, c, seed + i, examples=2 + 3 * i) for i, c in enumerate(self.clients)
        ]

    def aggregate(self, state: State, uploads: Iterable[Upload]) -> State:
        return self.algorithm.aggregate(state, uploads)[0]

    def later(self) -> State:
        """A state that has learned something, two rounds on."""
        state = self.start
        for t in (1, 2):
            self.clients = [Client(c.id, c.rank, seen=t - 1) for c in self.clients]
            state = self.aggregate(state, self.uploads(state, seed=10 * t))
        self.clients = [Client(c.id, c.rank, seen=2) for c in self.clients]
        return state

    def delta(self, state: State) -> dict[str, Tensor]:
        """The update that the server holds, dense."""
        held = self.algorithm.read(state)
        assert set(held) == set(SHAPES)
        return {n: f.delta for n, f in held.items()}


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
            assert {n: f.rank for n, f in start.items()} == dict.fromkeys(SHAPES, client.rank)
            for f in start.values():
                assert ((f.a != 0).any(dim=1) | (f.b != 0).any(dim=0)).all()


def test_a_fresh_start_changes_nothing(fed: Federation) -> None:
    for client in fed.clients:
        for f in fed.begin(fed.start, client).values():
            assert not f.delta.any()


def test_unanimity(fed: Federation) -> None:
    top = max(fed.clients, key=lambda c: c.rank)
    one = fed.upload(fed.start, top, seed=1)
    twins = [one, Upload(Client("twin", top.rank), one.factors, examples=9)]
    after = fed.aggregate(fed.start, twins)
    same(fed.delta(after), {n: f.delta for n, f in one.factors.items()})


def test_one_client_alone_returns_itself_at_a_later_round(
    make: Callable[..., Federation],
) -> None:
    fed = make([9, 9])  # enough rank for every layer: nothing is truncated
    state = fed.later()
    client = fed.clients[0]
    one = fed.upload(state, client, seed=5)
    begun = fed.begin(state, client)
    held = fed.delta(state)
    grown = {n: held[n] + one.factors[n].delta - begun[n].delta for n in SHAPES}
    same(fed.delta(fed.aggregate(state, [one])), grown, 1e-7)


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


def test_scale_is_a_gauge(fed: Federation) -> None:
    uploads = fed.uploads(fed.start)
    mixed = [
        Upload(u.client, {n: regauge(f, 0.5 + i) for n, f in u.factors.items()}, u.examples)
        for i, u in enumerate(uploads)
    ]
    folded = [
        Upload(u.client, {n: fold(f) for n, f in u.factors.items()}, u.examples) for u in mixed
    ]
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
    only_q = [Upload(u.client, {"q": u.factors["q"]}, u.examples) for u in others]
    after = fed.delta(fed.aggregate(fed.start, [*only_q, whole]))
    same({"v": after["v"]}, {"v": whole.factors["v"].delta})
    nobody = fed.delta(fed.aggregate(fed.start, only_q))
    assert not nobody["v"].any()
    assert nobody["q"].any()


def test_a_round_in_which_nobody_replied_changes_nothing(fed: Federation) -> None:
    state = fed.later()
    after, info = fed.algorithm.aggregate(state, [])
    same(fed.delta(after), fed.delta(state), 0.0)
    json.dumps(info)


def test_dtype_is_kept(make: Callable[..., Federation]) -> None:
    for dtype in (torch.float32, torch.float64):
        assert {t.dtype for t in tensors_of(make(dtype=dtype).later())} == {dtype}


def test_a_client_that_changes_rank_keeps_what_was_learned(fed: Federation) -> None:
    if not about(fed.name).mixed:
        pytest.skip("equal ranks only")
    state = fed.later()
    for rank in (1, 4, 9):
        client = Client("c0", rank)  # from the pretrained base, so that all it holds is sent
        sent = fed.algorithm.send(state, client)
        start = fed.begin(state, client)
        for name, whole in fed.delta(state).items():
            folded = sent.fold[name].delta if name in sent.fold else 0
            model = folded + start[name].delta
            if not sent.fold:  # what fits into the rank, and all of it where it all fits
                lost = (whole - model).norm() / whole.norm()
                assert lost < (1e-9 if rank == 9 else 1.0)
            else:
                torch.testing.assert_close(model, whole, atol=1e-9, rtol=1e-9)
