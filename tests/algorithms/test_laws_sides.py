"""What ffa-lora, rolora, fedsa-lora and lora-a2 claim, against a dense float64 reference."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyrank.algorithm import State
from polyrank.algorithms import load
from polyrank.client.start import begin
from polyrank.lora.algebra import half, regauge, take, truncate
from polyrank.lora.factor import Factor, Factors
from polyrank.messages import Client, Download, Upload
from tests.algorithms.dense import IN, OUT, close, template, uploads
from tests.algorithms.federation import SHAPES, Federation

RANKS = st.lists(st.integers(1, 7), min_size=1, max_size=5)


def numbers(sent: Download) -> int:
    """How many numbers a download carries."""
    return sum(f.a.numel() + f.b.numel() for f in (*sent.start.values(), *sent.fold.values()))


def halves(ranks: list[int], side: str, seed: int = 0) -> list[Upload]:
    return [
        replace(u, factors={n: half(f, side) for n, f in u.factors.items()})
        for u in uploads(ranks, seed=seed)
    ]


def mean_of_holders(sent: list[Upload], slot: int, side: str) -> torch.Tensor | None:
    """Slot `slot` averaged over the clients that hold it, written out; None without any."""
    holders = [u for u in sent if u.client.rank > slot]
    if not holders:
        return None
    total = sum(u.examples for u in holders)
    parts = [
        f.a[slot] if side == "a" else f.scale * f.b[:, slot]
        for u in holders
        for f in [u.factors["w"]]
    ]
    return sum(u.examples / total * x for u, x in zip(holders, parts, strict=True))


@pytest.mark.parametrize(
    ("name", "side", "rounds"),
    [("ffa-lora", "b", 0), ("rolora", "b", 0), ("rolora", "a", 1), ("fedsa-lora", "a", 0)],
)
@given(ranks=RANKS)
@settings(deadline=None, max_examples=30)
def test_one_side_becomes_the_mean_over_holders_and_the_other_stays(
    name: str, side: str, rounds: int, ranks: list[int]
) -> None:
    algorithm = load(name)
    state = algorithm.init(template(7), 0)
    for t in range(rounds):
        state, _ = algorithm.aggregate(state, halves([7, 3], "b", seed=9 + t))
    before = algorithm.read(state)["w"]
    sent = halves(ranks, side)
    after = algorithm.read(algorithm.aggregate(state, sent)[0])["w"]
    other = "a" if side == "b" else "b"
    assert torch.equal(getattr(after, other), getattr(before, other))
    for j in range(7):
        expected = mean_of_holders(sent, j, side)
        got, old = (f.a[j] if side == "a" else f.b[:, j] for f in (after, before))
        close(got, old if expected is None else expected)


@given(ranks=RANKS, width=st.integers(1, 40), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_ffa_clients_draw_the_leading_rows_of_one_a(
    ranks: list[int], width: int, seed: int
) -> None:
    like = Factor(torch.zeros(7, width).double(), torch.zeros(OUT, 7).double())
    algorithm = load("ffa-lora")
    state = algorithm.init({"w": like}, seed)
    for rank in ranks:
        sent = algorithm.send(state, Client("c", rank))
        assert (sent.train, sent.up, numbers(sent)) == ("b", "b", rank * OUT)
        start = begin(sent, Client("c", rank), {"w": like})["w"]
        assert torch.equal(start.a, algorithm.read(state)["w"].a[:rank])


class Attendance:
    """Clients who come and go: whom the server hears, who is refused, who fails."""

    def __init__(self, name: str, ranks: list[int]) -> None:
        self.fed = Federation(name, {}, ranks)
        self.state: State = self.fed.start

    def round(self, seed: int, fates: list[str]) -> None:
        heard = []
        for i, (client, fate) in enumerate(zip(self.fed.clients, fates, strict=True)):
            if fate == "away":
                continue
            version = self.fed.algorithm.send(self.state, client).version
            upload, _, private = self.fed.trained(self.state, client, seed + i)
            if fate == "failed":
                self.fed.private.pop(client.id, None)
                self.fed.clients[i] = replace(client, seen=0)
                continue
            self.fed.private[client.id] = private
            self.fed.clients[i] = replace(client, seen=version)
            if fate == "heard":
                heard.append(upload)
        self.state = self.fed.aggregate(self.state, heard)


FATES = st.sampled_from(["heard", "refused", "failed", "away"])


@given(st.lists(st.lists(FATES, min_size=3, max_size=3), max_size=6))
@settings(deadline=None, max_examples=40)
def test_rolora_clients_start_from_the_servers_slots_whatever_they_missed(
    history: list[list[str]],
) -> None:
    many = Attendance("rolora", [1, 2, 4])
    for t, fates in enumerate(history):
        many.round(10 * t, fates)
        held = many.fed.algorithm.read(many.state)
        for client in many.fed.clients:
            for n, f in many.fed.begin(many.state, client).items():
                close(f.a, held[n].a[: client.rank])
                close(f.scale * f.b, held[n].b[:, : client.rank])


def test_rolora_sends_one_side_and_both_after_an_absence() -> None:
    many = Attendance("rolora", [2, 2])
    outs, ins = (sum(s[i] for s in SHAPES.values()) for i in (0, 1))
    for t in range(5):
        present, absent = many.fed.clients
        sent = many.fed.algorithm.send(many.state, present)
        changed = [outs + ins, outs, ins][0 if t == 0 else 1 + (t + 1) % 2]
        assert sent.train == "ba"[t % 2]
        assert numbers(sent) == 2 * changed
        assert numbers(many.fed.algorithm.send(many.state, absent)) == 2 * (outs + ins)
        upload = many.fed.upload(many.state, present, seed=t)
        assert {f.shape for f in upload.factors.values()} == {
            (o, 0) if t % 2 == 0 else (0, i) for o, i in SHAPES.values()
        }
        many.round(t, ["heard", "away"])


def test_rolora_keeps_its_turn_when_nobody_replies() -> None:
    algorithm = load("rolora")
    state = algorithm.init(template(3), 0)
    assert algorithm.aggregate(state, [])[0] == state
    assert algorithm.send(state, Client("c", 3)).train == "b"


@pytest.mark.parametrize(("name", "rounds"), [("rolora", 1), ("fedsa-lora", 0)])
def test_rows_of_a_alone_carry_no_scale(name: str, rounds: int) -> None:
    algorithm = load(name)
    state = algorithm.init(template(4), 0)
    for _ in range(rounds):
        state, _ = algorithm.aggregate(state, halves([4, 2], "b"))
    sent = halves([4, 4], "a", seed=1)
    other = [
        replace(u, factors={"w": regauge(u.factors["w"], 3.0 + i)}) for i, u in enumerate(sent)
    ]
    one, two = (algorithm.read(algorithm.aggregate(state, s)[0])["w"] for s in (sent, other))
    close(one.a, two.a)


def test_fedsa_clients_keep_their_own_b_and_share_a() -> None:
    fed = Federation("fedsa-lora", {}, [1, 2, 4])
    state, rng = fed.start, 0
    for t in range(3):
        ends: dict[str, Factors] = {}
        sent = []
        for i, client in enumerate(fed.clients):
            upload, model, private = fed.trained(state, client, seed=rng + i)
            down = fed.algorithm.send(state, client)
            assert all(f.shape[0] == 0 for f in (*down.start.values(), *upload.factors.values()))
            assert (down.since, down.version) == (client.seen, 1)
            assert numbers(down) == client.rank * sum(i for _, i in SHAPES.values())
            ends[client.id] = {n: Factor(f.a, private[f"b/{n}"]) for n, f in upload.factors.items()}
            for n, f in ends[client.id].items():
                close(model[n], f.delta)  # what it uploads and what it keeps are its whole model
            fed.private[client.id], sent = private, [*sent, upload]
            fed.clients[i] = replace(client, seen=down.version)
        state, rng = fed.aggregate(state, sent), rng + 10
        for client in fed.clients:
            for n, f in fed.begin(state, client).items():
                close(f.b, ends[client.id][n].b)
                close(f.a, fed.algorithm.read(state)[n].a[: client.rank])
        newcomer = fed.begin(state, Client(f"new{t}", 4))
        assert not any(f.b.any() for f in newcomer.values())


def chosen(client: str, rank: int, slots: tuple[int, ...], side: str, seed: int) -> Upload:
    """An upload of one side of these slots, of the federation's seven."""
    [u] = uploads([7], examples=[rank], seed=seed)
    f = half(take(u.factors["w"], slots), side)
    return Upload(Client(client, rank), {"w": f}, u.examples, slots={"w": slots})


@pytest.mark.parametrize("side", ["b", "a"])
def test_lora_a2_puts_chosen_slots_where_they_belong(side: str) -> None:
    algorithm = load("lora-a2")
    state = algorithm.init(template(7), 0)
    if side == "a":
        everything = tuple(range(7))
        state, _ = algorithm.aggregate(state, [chosen("c", 7, everything, "b", seed=5)])
    before = algorithm.read(state)["w"]
    one, two = chosen("x", 2, (6, 3), side, 1), chosen("y", 3, (0, 3, 5), side, 2)
    none = chosen("z", 1, (), side, 3)
    after = algorithm.read(algorithm.aggregate(state, [one, two, none])[0])["w"]

    def slot(f: Factor, j: int) -> torch.Tensor:
        return f.a[j] if side == "a" else f.scale * f.b[:, j]

    f, g = one.factors["w"], two.factors["w"]
    close(slot(after, 6), slot(f, 0))
    close(slot(after, 3), 2 / 5 * slot(f, 1) + 3 / 5 * slot(g, 1))
    close(slot(after, 0), slot(g, 0))
    close(slot(after, 5), slot(g, 2))
    for j in (1, 2, 4):
        assert torch.equal(slot(after, j), slot(before, j))
    other = "a" if side == "b" else "b"
    assert torch.equal(getattr(after, other), getattr(before, other))


def test_lora_a2_sends_every_slot_and_lets_the_client_choose() -> None:
    algorithm = load("lora-a2")
    state = algorithm.init(template(7), 0)
    sent = algorithm.send(state, Client("c", 2))
    assert (sent.select, sent.train, numbers(sent)) == (2, "b", 7 * (OUT + IN))
    state, _ = algorithm.aggregate(state, [chosen("c", 2, (4, 6), "b", seed=1)])
    assert algorithm.send(state, Client("c", 2)).train == "a"
    idle, _ = algorithm.aggregate(state, [])
    assert algorithm.send(idle, Client("c", 2)).train == "a"


def test_lora_a2_of_a_client_that_chose_leading_slots_is_rolora() -> None:
    """One rule for both: only who holds a slot differs."""
    after = []
    for name in ("rolora", "lora-a2"):
        algorithm = load(name)
        state = algorithm.init(template(7), 0)
        for t, side in enumerate("bab"):
            sent = halves([2, 7, 4], side, seed=t)
            state, _ = algorithm.aggregate(state, sent)
        after.append(algorithm.read(state)["w"])
    assert torch.equal(after[0].a, after[1].a)
    assert torch.equal(after[0].b, after[1].b)
    close(truncate(after[0], 7).delta, after[1].delta)
