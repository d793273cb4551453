"""The round loop: who takes part, who is left out, what is averaged, what a client has seen."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
import torch

from polyrank.algorithms import load
from polyrank.client.start import begin
from polyrank.lora.factor import Factor
from polyrank.messages import Client, Download, Upload
from polyrank.server.loop import Exchange, Federation, Plan, Reply, Round, train
from polyrank.server.sampling import sample

TEMPLATE = {"w": Factor(torch.zeros(4, 5), torch.zeros(6, 4))}
CLIENTS = [Client(f"c{i}", r) for i, r in enumerate([1, 2, 4])]
HEAD = {"head": torch.zeros(2)}


def plan(name: str = "replicate", rounds: int = 3, participation: float = 1.0) -> Plan:
    return Plan(load(name), CLIENTS, TEMPLATE, rounds, participation, seed=0)


def start(plan: Plan) -> Federation:
    return Federation(plan.algorithm.init(TEMPLATE, 0), HEAD)


def answer(client: Client, download: Download, value: float = 1.0) -> Upload:
    """Everything one larger than it was sent; the head is the client's rank."""
    begun = begin(download, client, TEMPLATE)
    factors = {n: Factor(f.a, f.b + value, f.scale) for n, f in begun.items()}
    return Upload(client, factors, client.rank, {"head": torch.full((2,), float(client.rank))})


def honest(round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
    for client, download in sent:
        yield Reply(client, answer(client, download))


def failing(*ids: str, poison: bool = False) -> Exchange:
    """An engine under which some clients fail, or send NaN."""

    def exchange(round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
        for client, download in sent:
            if client.id not in ids:
                yield Reply(client, answer(client, download))
            elif poison:
                yield Reply(client, answer(client, download, float("nan")))
            else:
                yield Reply(client, None, "ran out of memory")

    return exchange


def rounds(plan: Plan, exchange: Exchange) -> list[Round]:
    return list(train(plan, exchange, start(plan)))


def test_the_head_is_averaged_by_data() -> None:
    done = rounds(plan(), honest)
    assert [r.federation.round for r in done] == [1, 2, 3]
    assert torch.equal(done[-1].federation.dense["head"], torch.full((2,), (1 + 4 + 16) / 7))


@pytest.mark.parametrize("poison", [False, True])
def test_a_client_that_fails_is_left_out_and_named(poison: bool) -> None:
    done = rounds(plan(), failing("c1", poison=poison))
    alone = rounds(plan()._replace(clients=[CLIENTS[0], CLIENTS[2]]), honest)
    for bad, good in zip(done, alone, strict=True):
        reason = "w: holds NaN or infinity" if poison else "ran out of memory"
        assert [(r.client.id, r.failure) for r in bad.left_out] == [("c1", reason)]
        assert [r.client.id for r in bad.replies] == ["c0", "c2"]
        ours, theirs = (r.federation.state.factors["w"] for r in (bad, good))
        assert torch.equal(ours.a, theirs.a)
        assert torch.equal(ours.b, theirs.b)
        assert torch.equal(bad.federation.dense["head"], good.federation.dense["head"])


@pytest.mark.parametrize("name", ["replicate", "flexlora", "flora", "fedhl", "zero-pad"])
def test_a_round_in_which_all_fail_leaves_the_state_as_it_was(name: str) -> None:
    some = plan(name)
    first = next(iter(train(some, honest, start(some)))).federation
    after = next(iter(train(some, failing("c0", "c1", "c2"), first)))
    assert after.replies == []
    assert {r.client.id for r in after.left_out} == {"c0", "c1", "c2"}
    assert after.federation.round == 2
    before, now = some.algorithm.read(first.state), some.algorithm.read(after.federation.state)
    assert torch.equal(before["w"].delta, now["w"].delta)
    assert torch.equal(first.dense["head"], after.federation.dense["head"])


def test_what_a_client_has_seen_follows_its_replies() -> None:
    """Under flora a client folds what it is sent; one that failed starts from pretrained again."""
    some = plan("flora")
    sent: list[tuple[int, str, int, int]] = []

    def exchange(round: int, asked: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
        for client, download in asked:
            sent.append((round, client.id, download.since, download.version))
            fails = (round, client.id) == (2, "c1")
            yield Reply(client, None if fails else answer(client, download))

    done = rounds(some, exchange)
    assert dict(done[0].federation.seen) == {}
    assert dict(done[1].federation.seen) == {"c0": 1, "c2": 1}
    assert [s for s in sent if s[1] == "c1"] == [(1, "c1", 0, 0), (2, "c1", 0, 1), (3, "c1", 0, 2)]
    assert [s for s in sent if s[1] == "c0"] == [(1, "c0", 0, 0), (2, "c0", 0, 1), (3, "c0", 1, 2)]


def test_it_goes_on_from_any_round_to_the_same_state() -> None:
    some = plan("fedhl", rounds=4, participation=0.67)
    whole = rounds(some, honest)
    later = list(train(some, honest, whole[1].federation))
    assert [r.federation.round for r in later] == [3, 4]
    ours, theirs = (r[-1].federation.state.delta["w"] for r in (later, whole))
    assert torch.equal(ours.delta, theirs.delta)


def test_it_tells_of_every_reply() -> None:
    told = []
    list(train(plan(rounds=2), failing("c0"), start(plan()), lambda *x: told.append(x)))
    assert [(r, k, reply.client.id, reply.failure) for r, k, reply in told[:3]] == [
        (1, 3, "c0", "ran out of memory"),
        (1, 3, "c1", None),
        (1, 3, "c2", None),
    ]
    assert len(told) == 6


def test_sampling_is_a_function_of_seed_and_round() -> None:
    clients = [Client(str(i), 1) for i in range(20)]
    one = sample(clients, 0.25, 0, 3)
    assert one == sample(clients, 0.25, 0, 3)
    assert len(one) == 5
    assert one != sample(clients, 0.25, 0, 4)
    assert one != sample(clients, 0.25, 1, 3)
    assert sample(clients, 0.001, 0, 1)
    assert sample(clients, 1.0, 0, 1) == clients
    counts = [0] * 20
    for t in range(400):
        for client in sample(clients, 0.25, 0, t):
            counts[int(client.id)] += 1
    assert min(counts) > 60  # 100 expected, standard deviation 8.7


def test_uploads_are_not_kept_in_memory() -> None:
    done = rounds(plan(), honest)
    assert all(not r.upload.factors and not r.upload.dense for d in done for r in d.replies)
    assert [r.upload.examples for r in done[0].replies] == [1, 2, 4]
    assert replace(done[0].replies[0].upload.client, seen=0) == CLIENTS[0]
