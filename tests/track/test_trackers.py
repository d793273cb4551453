"""What TensorBoard, Weights & Biases and MLflow read back is what the records have."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from mlflow import MlflowClient
from mlflow.entities import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import polyrank
from polyrank.errors import RecipeError
from polyrank.experiment.events import Event, RoundDone, Warned
from polyrank.report.records import load as load_records
from polyrank.track.following import available
from polyrank.track.tensorboard import Board
from tests.flower.fake import FakeGrid, Nodes, configs
from tests.flower.test_same_bits import IDS, over_flower
from tests.track import offline

# Of the libraries themselves.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ALL = "track=[tensorboard,wandb,mlflow]"
FILES = ("adapter_config.json", "adapter_model.safetensors")
Curve = list[tuple[int, float]]


def load(recipe: Path, *overrides: str) -> polyrank.Recipe:
    return polyrank.load_recipe(recipe, overrides)


def recorded(folder: Path, value: Callable[[Any], float | None]) -> Curve:
    rounds = load_records(folder).rounds
    return [(r["round"], v) for r in rounds if (v := value(r)) is not None]


def board(folder: Path) -> EventAccumulator:
    read = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    return read.Reload()


def on_board(folder: Path, name: str) -> Curve:
    return [(e.step, e.value) for e in board(folder).Scalars(name)]


def in_wandb(folder: Path, name: str) -> Curve:
    return [(row["_step"], row[name]) for row in offline.history(folder) if name in row]


def run_of(store: Path, experiment: str = "polyrank") -> tuple[MlflowClient, Run]:
    client = MlflowClient(tracking_uri=f"sqlite:///{store}")
    found = client.get_experiment_by_name(experiment)
    (run,) = client.search_runs([found.experiment_id])
    return client, run


def in_mlflow(folder: Path, name: str) -> Curve:
    client, run = run_of(folder / "mlflow/mlflow.db")
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


def same_everywhere(folder: Path, name: str, value: Callable[[Any], float | None]) -> None:
    wanted = recorded(folder, value)
    assert wanted
    for curve in (on_board(folder, name), in_wandb(folder, name), in_mlflow(folder, name)):
        assert [step for step, _ in curve] == [step for step, _ in wanted]
        assert [v for _, v in curve] == pytest.approx([v for _, v in wanted], rel=1e-6)


def each_round_once(folder: Path, rounds: int) -> None:
    for read in (on_board, in_wandb, in_mlflow):
        assert [step for step, _ in read(folder, "traffic/up_mb")] == list(range(rounds + 1))
    same_everywhere(folder, "test/loss", lambda r: r["test"]["loss"])


def upload(record: Any) -> float:
    return sum(c["up"]["total"] for c in record["clients"]) / 1e6


def stopping(*rounds: int) -> Callable[[Event], None]:
    def watch(event: Event) -> None:
        if isinstance(event, RoundDone) and event.record["round"] in rounds:
            raise KeyboardInterrupt

    return watch


def test_each_has_what_the_records_have(
    recipe: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: socket.socket, address: object) -> None:
        assert isinstance(address, str), f"a connection to {address}"
        return connect(self, address)

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refused)
    folder = polyrank.run(load(recipe, ALL, "evaluation.every=2")).folder
    same_everywhere(folder, "test/loss", lambda r: r["test"] and r["test"]["loss"])
    same_everywhere(folder, "test/accuracy", lambda r: r["test"] and r["test"]["accuracy"])
    same_everywhere(folder, "traffic/up_mb", upload)
    same_everywhere(folder, "ranks/max", lambda r: 8 if r["round"] else None)
    same_everywhere(folder, "rank_4/loss", lambda r: _loss(r, rank=4))
    same_everywhere(folder, "info/n_eff", lambda r: r["info"].get("n_eff"))
    up = [v for _, v in recorded(folder, upload)]
    assert [v for _, v in in_wandb(folder, "traffic/up_total_mb")] == pytest.approx(
        [sum(up[: i + 1]) for i in range(4)]
    )
    assert not list(alone.iterdir())  # nothing but in the run folder


def _loss(record: Any, rank: int) -> float | None:
    return next((c["loss"] for c in record["clients"] if c["rank"] == rank), None)


def test_the_recipe_and_the_result_are_there_too(recipe: Path) -> None:
    result = polyrank.run(load(recipe, ALL))
    final = result.records.final
    assert final is not None
    folder, loss = result.folder, final["test"]["loss"]
    config = offline.config(folder)
    assert config["project"] == "polyrank"
    assert config["local"]["lr"] == 0.02
    assert offline.summary(folder)["final/loss"] == loss
    _, run = run_of(folder / "mlflow/mlflow.db")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tiny replicate seed 0"
    assert run.data.params["local.lr"] == "0.02"
    assert run.data.params["lora.ranks"] == "[1, 2, 4, 8]"
    assert run.data.params["local.head_lr"] == "null"
    assert run.data.metrics["final/loss"] == loss
    assert on_board(folder, "final/loss") == [(3, pytest.approx(loss))]
    text = board(folder).Tensors("recipe/text_summary")[0].tensor_proto.string_val[0]
    assert b"lr: 0.02" in text
    settings = board(folder).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"local.lr" in settings


def test_a_run_that_goes_on_is_the_same_run_in_each(recipe: Path) -> None:
    made = load(recipe, ALL, "rounds=5")
    folder = made.output.dir / "tiny"
    with pytest.raises(KeyboardInterrupt):
        polyrank.run(made, watch=stopping(2))
    ids = (folder / "track.json").read_text()
    _, run = run_of(folder / "mlflow/mlflow.db")
    assert run.info.status == "KILLED"
    with pytest.raises(KeyboardInterrupt):
        polyrank.resume(folder, watch=stopping(3))
    polyrank.resume(folder)
    assert (folder / "track.json").read_text() == ids
    assert offline.config(folder)["id"] in ids
    each_round_once(folder, rounds=5)
    assert run_of(folder / "mlflow/mlflow.db")[1].info.status == "FINISHED"


def test_what_a_tracker_lacks_is_written_when_the_run_goes_on(recipe: Path) -> None:
    """Tracked from the second round on, and then an event file cut off in a round's midst."""
    made = load(recipe, "rounds=5")
    folder = made.output.dir / "tiny"
    with pytest.raises(KeyboardInterrupt):
        polyrank.run(made, watch=stopping(2))
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("track: []", ALL.replace("=", ": ")))
    with pytest.raises(KeyboardInterrupt):
        polyrank.resume(folder, watch=stopping(4))
    (events,) = (folder / "tensorboard").iterdir()
    events.write_bytes(events.read_bytes()[:-20])
    assert [step for step, _ in on_board(folder, "test/loss")] == [0, 1, 2, 3]
    polyrank.resume(folder)
    each_round_once(folder, rounds=5)


def test_a_tracker_that_fails_does_not_stop_the_run(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = polyrank.run(load(recipe, "name=plain")).folder
    log = Board.log

    def fails(self: Board, round: int, values: Any) -> None:
        if round == 2:
            raise OSError("no space\nleft")
        log(self, round, values)

    monkeypatch.setattr(Board, "log", fails)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nosuch://server")
    lines: list[str] = []

    def watch(event: Event) -> None:
        lines.extend([event.line] if isinstance(event, Warned) else [])

    result = polyrank.run(load(recipe, ALL), watch=watch)
    assert [line.split(" (")[0] for line in lines] == [
        "mlflow follows this run no more", "tensorboard follows this run no more"
    ]  # fmt: skip
    assert "(OSError: no space left)" in lines[1]
    assert [step for step, _ in on_board(result.folder, "test/loss")] == [0, 1]
    assert [step for step, _ in in_wandb(result.folder, "test/loss")] == [0, 1, 2, 3]
    for name in FILES:
        there = (result.folder / "adapter" / name).read_bytes()
        assert there == (plain / "adapter" / name).read_bytes()


def test_one_that_is_not_installed_is_one_line_before_anything_is_done(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "polyrank.track.wandb", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RecipeError) as raised:
        polyrank.run(load(recipe, ALL))
    assert str(raised.value).startswith("track: wandb is not installed (")
    assert str(raised.value).endswith("; pip install 'polyrank[track]'")
    assert not (recipe.parent / "runs").exists()
    available(["tensorboard", "mlflow"])


def test_mlflow_goes_where_its_own_variables_say(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'all.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    folder = polyrank.run(load(recipe, "track=mlflow")).folder
    assert not (folder / "mlflow").exists()
    _, run = run_of(tmp_path / "all.db", "ours")
    assert run.data.metrics["round/clients"] == 4


@pytest.mark.parametrize(
    ("variables", "mode"),
    [({}, "offline"), ({"WANDB_API_KEY": "k"}, "online"),
     ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, None), ({"WANDB_MODE": "online"}, None)],
)  # fmt: skip
def test_wandb_is_online_only_where_it_was_asked_to_be(
    variables: dict[str, str], mode: str | None, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its server, which is not here, what is known is the first step that it lacks."""
    asked: dict[str, Any] = {}
    steps: list[int] = []

    class Run:
        starting_step = 2
        summary: dict[str, float] = {}  # noqa: RUF012

        def log(self, values: Any, step: int, commit: bool) -> None:
            steps.append(step)

        def finish(self, exit_code: int) -> None:
            asked["exit_code"] = exit_code

    def init(**settings: Any) -> Run:
        asked.update(settings)
        return Run()

    monkeypatch.setattr(wandb, "init", init)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    polyrank.run(load(recipe, "track=wandb"))
    assert asked["mode"] == mode
    online = (mode or variables["WANDB_MODE"]) == "online"
    assert asked["resume"] == ("allow" if online else None)
    assert (steps, asked["exit_code"]) == ([2, 3], 0)
    assert Run.summary["final/accuracy"] > 0


def test_the_server_of_a_federation_is_followed_alike(recipe: Path, tmp_path: Path) -> None:
    there = tmp_path / "flower"
    over_flower(load(recipe, ALL), there, FakeGrid(Nodes(configs(tmp_path, IDS))))
    each_round_once(there, rounds=3)
    same_everywhere(there, "traffic/up_mb", upload)
