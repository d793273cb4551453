"""An existing app with our strategy: mixed ranks, checked answers, the algorithm's own result."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from torch import Tensor

from polyrank import algorithms
from polyrank.errors import FederationError, MessageError
from polyrank.flower.arrays import packed, taken
from polyrank.flower.rank import state_rank
from polyrank.flower.strategy import Strategy, ordinary
from polyrank.lora.factor import Adapter, Factor
from polyrank.messages import Client, Upload
from polyrank.recipe.schema import Aggregation
from tests.flower.fake import FakeGrid, failing

LAYERS = {"base_model.model.q": (6, 5), "base_model.model.v": (4, 5)}
HEAD, SCALE, MOST = "base_model.model.classifier.weight", 2.0, 4
RANKS = {11: 1, 12: 2, 13: 4}


def arrays(rank: int, fill: Callable[[str, tuple[int, ...]], Tensor] | None = None) -> ArrayRecord:
    """An adapter as PEFT's state dict."""
    shapes = {HEAD: (3, 6)}
    for layer, (out, width) in LAYERS.items():
        shapes[f"{layer}.lora_A.weight"], shapes[f"{layer}.lora_B.weight"] = (
            (rank, width),
            (out, rank),
        )
    make = fill or (lambda name, shape: torch.zeros(shape))
    return ArrayRecord({name: Array(make(name, shape).numpy()) for name, shape in shapes.items()})


class App:
    """Nodes of somebody's app: each adds to what it was sent something of its own."""

    def __init__(self, ranks: dict[int, int]) -> None:
        self.configs = {node: {"rank": rank} for node, rank in ranks.items()}
        self.seen: list[tuple[int, int, ArrayRecord]] = []
        self.told: list[object] = []

    def answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        told = Context(1, node, dict(self.configs[node]), RecordDict(), {})
        asked = message.metadata.message_type == "query"
        answer = state_rank(message, told) if asked else self.train(node, message)
        answer.metadata.__dict__["_src_node_id"] = node
        return answer

    def train(self, node: int, message: Message) -> Message:
        sent = message.content.array_records["arrays"]
        round = int(str(message.content.config_records["config"]["server-round"]))
        self.seen.append((round, node, sent))
        self.told.append(message.content.config_records["config"].get("lr"))
        trained = ArrayRecord({
            name: Array(step(node, round, array.numpy())) for name, array in sent.items()
        })  # fmt: skip
        metrics = MetricRecord({"num-examples": node, "loss": 1.0 / round})
        return Message(RecordDict({"arrays": trained, "metrics": metrics}), reply_to=message)


def step(node: int, round: int, values: np.ndarray) -> np.ndarray:
    draw = np.random.default_rng([node, round, values.size])
    return values + draw.standard_normal(values.shape, dtype=np.float32)


def run(name: str, app: App, rounds: int = 2, **more: Any) -> Any:
    strategy = Strategy(name, scale=SCALE, seed=3, **more)
    return strategy.start(FakeGrid(app), arrays(MOST), num_rounds=rounds, timeout=2.0)


@pytest.mark.parametrize("name", [n for n in algorithms.names() if ordinary(n)])
def test_the_result_is_the_algorithms(name: str) -> None:
    ranks = RANKS if algorithms.about(name).mixed else dict.fromkeys(RANKS, MOST)
    app, most = App(ranks), MOST
    plain = Aggregation(weights="data")
    result = run(name, app, aggregation=plain)
    of = algorithms.load(name)
    zeros = taken(arrays(most), SCALE)
    state, head = of.init(zeros.factors, 3), zeros.dense[HEAD]
    for round in (1, 2):
        uploads, heads = [], []
        for node, rank in ranks.items():
            sent = of.send(state, Client(str(node), rank))
            whole = packed(Adapter(sent.start, {HEAD: head}), arrays(1), SCALE)
            trained = ArrayRecord(
                {n: Array(step(node, round, a.numpy())) for n, a in whole.items()}
            )
            back = taken(trained, SCALE)
            uploads.append(Upload(Client(str(node), rank), back.factors, node))
            heads.append(node * back.dense[HEAD])
        state, head = of.aggregate(state, uploads)[0], torch.stack(heads).sum(0) / sum(ranks)
    found = taken(result.arrays, SCALE)
    torch.testing.assert_close(found.dense[HEAD], head)
    for layer, f in of.read(state).items():
        assert found.factors[layer].rank == most
        if f.rank <= most:
            torch.testing.assert_close(found.factors[layer].delta, f.delta, rtol=1e-4, atol=1e-5)
        else:
            spectrum = torch.linalg.svdvals(f.delta)
            rest = torch.linalg.matrix_norm(f.delta - found.factors[layer].delta)
            torch.testing.assert_close(rest, spectrum[most:].norm(), rtol=1e-3, atol=1e-4)
    assert result.train_metrics_clientapp[2]["loss"] == pytest.approx(0.5)


def test_every_node_is_sent_its_own_rank() -> None:
    app = App(RANKS)
    run("replicate", app)
    for _, node, sent in app.seen:
        for layer in LAYERS:
            assert sent[f"{layer}.lora_A.weight"].shape[0] == RANKS[node]
    assert len(app.seen) == 2 * len(RANKS)


def test_the_global_model_is_evaluated_before_the_first_round_and_after_each() -> None:
    seen: list[int] = []

    def evaluate(round: int, record: ArrayRecord) -> MetricRecord:
        seen.append(round)
        return MetricRecord({"norm": float(np.abs(record[HEAD].numpy()).sum())})

    strategy = Strategy("replicate", scale=SCALE)
    result = strategy.start(FakeGrid(App(RANKS)), arrays(MOST), 2, 2.0, None, evaluate)
    assert seen == [0, 1, 2]
    assert result.evaluate_metrics_serverapp[0]["norm"] == 0
    assert result.evaluate_metrics_serverapp[2]["norm"] > 0


def _nan(message: Message) -> None:
    record = message.content.array_records["arrays"]
    record[HEAD] = Array(np.full((3, 6), np.nan, dtype=np.float32))


def _other_rank(message: Message) -> None:
    message.content["arrays"] = arrays(3)


def _huge(message: Message) -> None:
    message.content.array_records["arrays"][HEAD] = Array(np.zeros((3, 60_000), dtype=np.float32))


def _pickled(message: Message) -> None:
    record = message.content.array_records["arrays"]
    record[HEAD] = Array("float32", (3, 6), "pickle", b"cos\nsystem\n(S'true'\ntR.")


def _no_examples(message: Message) -> None:
    message.content["metrics"] = MetricRecord({"loss": 1.0})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(_nan, "NaN"), (_other_rank, "rank 3, not 1"), (_huge, "bytes, where at most"),
     (_pickled, "pickle"), (_no_examples, "num-examples")],
)  # fmt: skip
def test_an_answer_that_cannot_be_is_left_out_by_name(
    damage: Callable[[Message], None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    def change(sent: Message, answer: Message) -> list[Message]:
        if sent.metadata.dst_node_id == 11 and sent.metadata.message_type == "train":
            damage(answer)
        return [answer]

    caplog.set_level("WARNING", logger="flwr")
    result = Strategy("replicate", scale=SCALE).start(
        FakeGrid(App(RANKS), change), arrays(MOST), 1, 2.0
    )
    without = Strategy("replicate", scale=SCALE).start(
        FakeGrid(App({n: r for n, r in RANKS.items() if n != 11})), arrays(MOST), 1, 2.0
    )
    assert any("node 11" in m and reason in m for m in caplog.messages), caplog.messages
    for name, array in without.arrays.items():
        assert np.array_equal(result.arrays[name].numpy(), array.numpy())


def test_metrics_that_do_not_fit_each_other_stop_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def change(sent: Message, answer: Message) -> list[Message]:
        if sent.metadata.dst_node_id == 12 and sent.metadata.message_type == "train":
            answer.content["metrics"] = MetricRecord({"num-examples": 4, "loss": [1.0, 2.0]})
        return [answer]

    caplog.set_level("WARNING", logger="flwr")
    grid = FakeGrid(App(RANKS), change)
    result = Strategy("replicate", scale=SCALE).start(grid, arrays(MOST), 1, 2.0)
    assert any("metrics of the nodes do not fit each other" in m for m in caplog.messages)
    assert not result.train_metrics_clientapp[1]
    assert np.abs(result.arrays[HEAD].numpy()).sum() > 0


def test_mistakes_are_one_line() -> None:
    with pytest.raises(FederationError, match=r"flora needs clients that do more .* replicate"):
        Strategy("flora")
    with pytest.raises(
        FederationError, match="needs all at the rank of initial_arrays, 4; nodes have 1, 2, 4"
    ):
        run("fedit", App(RANKS))
    with pytest.raises(FederationError, match="node 12 states rank 9; 1 to 4 can be"):
        run("replicate", App({11: 1, 12: 9}))
    with pytest.raises(MessageError, match="holds no lora_A"):
        Strategy("replicate").start(FakeGrid(App(RANKS)), ArrayRecord({}), 1, 2.0)
    silent = FakeGrid(App(RANKS), lambda sent, answer: [failing(sent, "no query function")])
    with pytest.raises(FederationError, match=r"does not state its rank: .*add app\.query"):
        Strategy("replicate").start(silent, arrays(MOST), 1, 2.0)
    with pytest.raises(FederationError, match=r"3 of at least 5 nodes stated their rank"):
        Strategy("replicate", least=5).start(FakeGrid(App(RANKS)), arrays(MOST), 1, 0.1)


def test_names_of_a_models_own_adapter_are_kept() -> None:
    a, b = torch.randn(2, 5), torch.randn(6, 2)
    like = ArrayRecord({
        "m.lora_A.default.weight": Array(a.numpy()), "m.lora_B.default.weight": Array(b.numpy())
    })  # fmt: skip
    found = taken(like, SCALE)
    assert list(packed(found, like, SCALE)) == list(like)
    other = packed(Adapter({"m": Factor(a, b, 1.0)}, found.dense), like, SCALE)
    np.testing.assert_allclose(other["m.lora_B.default.weight"].numpy(), b.numpy() / SCALE)


def test_config_reaches_the_clients() -> None:
    app = App(RANKS)
    grid = FakeGrid(app)
    Strategy("replicate").start(grid, arrays(MOST), 1, 2.0, ConfigRecord({"lr": 0.5}))
    assert {round for round, _, _ in app.seen} == {1}
    assert app.told == [0.5] * len(RANKS)
