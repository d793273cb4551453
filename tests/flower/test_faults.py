"""What goes wrong between server and nodes: left out by name, resumed, or refused in one line."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode

import polyrank
from polyrank.errors import MessageError, StorageError
from polyrank.experiment import single
from polyrank.experiment.folder import create
from polyrank.flower import payload, serve, server_app, status
from polyrank.flower.alone import alone
from polyrank.flower.network import AbsentError
from polyrank.flower.node import Node
from polyrank.flower.settings import SettingsError
from polyrank.report.records import RunRecords
from polyrank.report.records import load as load_records
from tests.flower.fake import Change, FakeGrid, Nodes, configs, context, failing
from tests.flower.test_same_bits import IDS, bits, over_flower, traffic

ROUNDS = ["algorithm=flora", "rounds=2", "engine.group=1"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are looked at elsewhere, and take longer than these runs."""
    monkeypatch.setattr(single.page, "write", lambda path, runs: path.write_text("a report"))


@pytest.fixture
def made(recipe: Path) -> polyrank.Recipe:
    return polyrank.load_recipe(recipe, ROUNDS)


def runs(made: polyrank.Recipe, tmp_path: Path, change: Change, **config: object) -> RunRecords:
    """The records of a run in which what arrives is changed on its way."""
    there = tmp_path / "flower"
    over_flower(made, there, FakeGrid(Nodes(configs(tmp_path, IDS)), change), **config)
    return load_records(there / "records.jsonl")


def of(sent: Message, round: int, node: int = 101) -> bool:
    """Whether this is what that node was sent in that round."""
    facts, _ = payload.taken(sent.content)
    return (facts.get("round"), sent.metadata.dst_node_id) == (round, node)


def left_out(records: RunRecords) -> list[tuple[int, str, str]]:
    return [(r["round"], c["id"], c["reason"]) for r in records.rounds for c in r["left_out"]]


def swapped(content: RecordDict, answer: Message) -> Message:
    answer.content = content
    return answer


def huge(answer: Message) -> Message:
    facts, _ = payload.taken(answer.content)
    return swapped(payload.packed(facts, bytes(10_000_000)), answer)


def pickled(answer: Message) -> Message:
    answer.content["data"] = ArrayRecord({"data": Array("object", (1,), "numpy.ndarray", b"cos")})
    return answer


def cut(answer: Message) -> Message:
    facts, data = payload.taken(answer.content)
    return swapped(payload.packed(facts, data[: len(data) // 2]), answer)


def foreign(answer: Message) -> Message:
    answer.metadata.__dict__["_src_node_id"] = 102
    return answer


def lying(answer: Message) -> Message:
    facts, data = payload.taken(answer.content)
    return swapped(payload.packed({**facts, "factors": 10**9}, data), answer)


@pytest.mark.parametrize(
    ("break_", "reason"),
    [
        (huge, "10000000 bytes, where at most"),
        (pickled, "not bytes: an array of object"),
        (cut, "not a message of this package"),
        (foreign, "answered by node 102, not 101"),
        (lying, "bytes are tensors"),
        (lambda answer: swapped(RecordDict(), answer), "not a message of this package"),
    ],
)
def test_an_answer_that_cannot_be_used_is_left_out_by_name(
    break_: Callable[[Message], Message], reason: str, made: polyrank.Recipe, tmp_path: Path
) -> None:
    records = runs(made, tmp_path, lambda s, a: [break_(a) if of(s, 1) else a])
    assert [(r, id) for r, id, _ in left_out(records)] == [(1, "1")]
    assert reason in left_out(records)[0][2]
    assert len(records.rounds[2]["clients"]) == 4


def test_a_node_that_fails_is_left_out_and_back_in_the_next_round(
    made: polyrank.Recipe, tmp_path: Path
) -> None:
    records = runs(made, tmp_path, lambda s, a: [failing(s, "killed") if of(s, 1) else a])
    assert left_out(records) == [(1, "1", "its node failed (Flower's code 2): killed")]
    assert len(records.rounds[2]["clients"]) == 4


def test_a_node_that_does_not_answer_is_left_out_at_the_deadline(
    made: polyrank.Recipe, tmp_path: Path
) -> None:
    records = runs(made, tmp_path, lambda s, a: [] if of(s, 2) else [a], deadline=2)
    assert left_out(records) == [(2, "1", "no answer within 2 s")]


def test_flower_may_be_the_first_to_say_that_it_is_too_late(
    made: polyrank.Recipe, tmp_path: Path
) -> None:
    def late(sent: Message, answer: Message) -> list[Message]:
        expired = Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, "expired"), reply_to=sent)
        return [expired] if of(sent, 1) else [answer]

    records = runs(made, tmp_path, late, deadline=600)
    assert left_out(records) == [(1, "1", "no answer within 600 s")]


def test_a_second_answer_and_one_that_nobody_asked_for_change_nothing(
    made: polyrank.Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = bits(polyrank.run(made).folder)
    with caplog.at_level(logging.WARNING, "flwr"):
        runs(made, tmp_path, lambda s, a: [a, a] if of(s, 1) else [a])
    assert bits(tmp_path / "flower") == wanted
    assert "node 101 answered what nobody waits for; it was left out" in caplog.text


def test_a_lost_answer_leaves_the_client_where_the_server_knows_it(
    made: polyrank.Recipe, tmp_path: Path
) -> None:
    """The node did round 1, but its upload was lost: as if it had failed in the simulator."""
    lossy = made.model_copy(
        update={"wire": made.wire.model_copy(update={"up": "topk(0.5)"}), "rounds": 3}
    )
    one = runs(lossy, tmp_path / "one", lambda s, a: [failing(s, "lost") if of(s, 2) else a])
    nodes = Nodes(configs(tmp_path / "two", IDS))

    class Deaf(Node):
        """A node that never gets the message of round 2."""

        def answer(self, request: dict, data: bytes) -> tuple[dict, bytes]:
            if request["facts"].get("round") == 2:
                raise MessageError("deaf")
            return super().answer(request, data)

    nodes.held[101] = Deaf()
    over_flower(lossy, tmp_path / "two/flower", FakeGrid(nodes))
    assert [r for r, *_ in left_out(one)] == [2]
    assert bits(tmp_path / "one/flower") == bits(tmp_path / "two/flower")


@pytest.mark.parametrize("name", ["flora", "fedsa-lora", "hetlora"])
def test_a_server_that_died_goes_on_to_the_same_bits(
    name: str, recipe: Path, tmp_path: Path
) -> None:
    """It dies in the midst of round 2, when nodes have done their part already; then with new
    processes on both sides."""
    own = [f"algorithm={name}", "rounds=3", "engine.group=1", "wire.up=topk(0.5)"]
    made = polyrank.load_recipe(recipe, own)
    here = polyrank.run(made)
    there, count = tmp_path / "flower", 0

    def dies(sent: Message, answer: Message) -> list[Message]:
        nonlocal count
        count += of(sent, 2, sent.metadata.dst_node_id)
        if count == 4:
            raise KeyboardInterrupt
        return [answer]

    with pytest.raises(KeyboardInterrupt):
        over_flower(made, there, FakeGrid(Nodes(configs(tmp_path, IDS)), dies))
    assert load_records(there / "records.jsonl").done == 1
    over_flower(made, there, FakeGrid(Nodes(configs(tmp_path, IDS))))
    assert bits(there) == bits(here.folder)
    assert traffic(there) == traffic(here.folder)


def test_a_node_that_comes_back_as_another_at_another_rank(
    made: polyrank.Recipe, tmp_path: Path
) -> None:
    nodes = Nodes(configs(tmp_path, IDS))

    def leaves(sent: Message, answer: Message) -> list[Message]:
        if of(sent, 1, 103) and 102 in nodes.configs:  # after round 1's messages were answered
            nodes.configs[200] = {**nodes.configs.pop(102), "rank": 1}
            nodes.held[200] = Node()
        return [answer]

    there = tmp_path / "flower"
    over_flower(made, there, FakeGrid(nodes, leaves))
    rounds = load_records(there / "records.jsonl").rounds
    ranks = [{c["id"]: c["rank"] for c in r["clients"]} for r in rounds[1:]]
    assert ranks == [{"0": 1, "1": 2, "2": 4, "3": 8}, {"0": 1, "1": 2, "2": 1, "3": 8}]


def test_a_node_that_joins_late(made: polyrank.Recipe, tmp_path: Path) -> None:
    all_ = configs(tmp_path, IDS)
    nodes = Nodes({id: all_[id] for id in (100, 101, 102)})

    def joins(sent: Message, answer: Message) -> list[Message]:
        if of(sent, 1, 102):
            nodes.configs[103], nodes.held[103] = all_[103], Node()
        return [answer]

    there = tmp_path / "flower"
    over_flower(made, there, FakeGrid(nodes, joins), **{"min-nodes": 3})
    records = load_records(there / "records.jsonl")
    assert left_out(records) == [(1, "3", "its node is not connected")]
    assert len(records.rounds[2]["clients"]) == 4


def test_too_few_nodes_is_one_line(made: polyrank.Recipe, tmp_path: Path) -> None:
    nodes = Nodes(configs(tmp_path, IDS[:2]))
    with pytest.raises(AbsentError, match=r"round 1: 2 of min-nodes=4 nodes .* after 1 s"):
        over_flower(made, tmp_path / "flower", FakeGrid(nodes), deadline=1)


def test_two_nodes_cannot_be_one_client(made: polyrank.Recipe, tmp_path: Path) -> None:
    nodes = Nodes(configs(tmp_path, ["0", "0"]))
    with pytest.raises(MessageError, match="site-1 states to be client '0', which site-0 is"):
        over_flower(made, tmp_path / "flower", FakeGrid(nodes), **{"min-nodes": 2})


def test_a_node_that_fails_when_it_is_asked_who_it_is_is_asked_again(
    made: polyrank.Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failed = []

    def once(sent: Message, answer: Message) -> list[Message]:
        if sent.metadata.message_type == "query" and not failed:
            failed.append(sent)
            return [failing(sent, "not yet")]
        return [answer]

    with caplog.at_level(logging.WARNING, "flwr"):
        records = runs(made, tmp_path, once)
    assert "node 100 did not say who it is" in caplog.text
    assert [len(r["clients"]) for r in records.rounds] == [0, 4, 4]


def test_two_programs_do_not_work_on_one_run(
    made: polyrank.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first may live on for a little when its SuperLink was killed."""
    monkeypatch.setattr(serve, "_PATIENCE", 0.1)
    there = tmp_path / "flower"
    create(there, made)
    with (
        alone(there / status.LOCK, 0.0),
        pytest.raises(StorageError, match="is at work on"),
    ):
        over_flower(made, there, FakeGrid(Nodes(configs(tmp_path, IDS))))
    assert not (there / "records.jsonl").exists()


def test_a_mistake_is_told_without_flower_s_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        with pytest.raises(SettingsError) as raised:
            server_app.main(FakeGrid(Nodes({})), context({"recipe": "demo", "min-nodes": 0}))
        # As Flower does with whatever a ServerApp raises.
        serve.LOG.error("ServerApp raised an exception", exc_info=raised.value)
        serve.LOG.error("something else", exc_info=ValueError("a mistake of ours"))
    finally:
        serve.LOG.removeFilter(server_app._brief)
    told = [(r.getMessage(), r.exc_info is None) for r in caplog.records]
    assert told == [
        ("polyrank: run config: min-nodes is 0; give a whole number from 1", True),
        ("ServerApp raised an exception", True),
        ("something else", False),
    ]


def test_a_node_forgets_what_it_kept_of_runs_before(
    made: polyrank.Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = Nodes({id: {**c, "keep": 0} for id, c in configs(tmp_path, IDS).items()})
    kept = set()
    for name in ("one", "two"):
        over_flower(made, tmp_path / name, FakeGrid(nodes))
        for i in range(len(IDS)):
            (run,) = (tmp_path / f"site-{i}/runs").iterdir()
            kept.add(run.name)
    assert len(kept) == 2
    assert capsys.readouterr().err.count("forgot run") == len(IDS)
