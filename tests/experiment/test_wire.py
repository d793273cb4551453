"""Whole runs under codecs: every algorithm, both ways; measured traffic; stopped, gone on with."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import polyrank
from polyrank.algorithms import about, names
from polyrank.client.fit import fit
from polyrank.client.job import Job, Task
from polyrank.client.model import Workbench
from polyrank.client.private import Private
from polyrank.experiment import costs
from polyrank.experiment.events import Event, RoundDone
from polyrank.experiment.ready import prepared
from polyrank.experiment.trial import trial
from polyrank.messages import Upload
from polyrank.recipe.load import load

FILES = ("adapter_config.json", "adapter_model.safetensors")


def bits(folder: Path) -> list[bytes]:
    return [(folder / "adapter" / name).read_bytes() for name in FILES]


def equal_ranks(name: str) -> list[str]:
    return [] if about(name).mixed else ["lora.ranks=4"]


@pytest.mark.parametrize("name", names())
def test_every_algorithm_learns_through_lossy_messages(name: str, recipe: Path) -> None:
    """Nobody is left out, and the loss falls, with half of the changes in a byte each and four bits
    for what is sent."""
    own = [f"algorithm={name}", "rounds=2", *equal_ranks(name)]
    lossy = load(recipe, [*own, "wire.up=topk(0.5)+int8", "wire.down=int4"]).recipe
    found = trial(lossy, name, prepared(lossy))
    assert not any(r["left_out"] for r in found.rounds)
    losses = [r["test"]["loss"] for r in found.rounds]
    assert len(losses) == 3
    assert losses[2] < losses[0] - 0.05


def size_of(recipe: Path, *overrides: str) -> tuple[dict, dict]:
    """Bytes of one client's factors and head in the last round, up and down."""
    found = polyrank.run(polyrank.load_recipe(recipe, overrides)).records
    one = next(c for c in found.rounds[-1]["clients"] if c["rank"] == 8)
    return one["up"], one["down"]


def test_the_records_hold_what_was_encoded(recipe: Path) -> None:
    up, down = size_of(recipe, "name=plain")
    small, half = size_of(recipe, "name=small", "wire.up=int8", "wire.down=bf16")
    assert half["factors"] == down["factors"] / 2
    assert half["dense"] == down["dense"] / 2
    assert 0.25 <= small["factors"] / up["factors"] < 0.36  # of rows of 16 to 48 numbers
    for size in (small, half):
        assert 0 < size["total"] - size["factors"] - size["dense"] < 2500


@pytest.mark.parametrize(
    ("name", "up", "down"),
    [("flora", "topk(0.2)+int8", "int4"), ("lora-a2", "topk(0.3)", "fp32")],
)
def test_what_is_owed_survives_a_stop(name: str, up: str, down: str, recipe: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, RoundDone) and event.record["round"] == 2:
            raise KeyboardInterrupt

    own = [f"algorithm={name}", f"wire.up={up}", f"wire.down={down}", "rounds=4",
           "participation=0.75", *equal_ranks(name)]  # fmt: skip
    whole = polyrank.run(polyrank.load_recipe(recipe, [*own, "name=whole"]))
    part = polyrank.load_recipe(recipe, [*own, "name=part"])
    with pytest.raises(KeyboardInterrupt):
        polyrank.run(part, watch=stop)
    folder = part.output.dir / "part"
    (result,) = polyrank.resume(folder)
    assert bits(folder) == bits(whole.folder)
    assert result.records.rounds[-1]["test"] == whole.records.rounds[-1]["test"]
    forgetful = trial(load(recipe, own).recipe, name, prepared(load(recipe, own).recipe))
    assert forgetful.rounds[-1]["test"] == whole.records.rounds[-1]["test"]  # kept in memory


def test_feedback_changes_what_is_sent(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resumed bits above are not equal because nothing is owed."""
    made = load(recipe, ["wire.up=topk(0.1)"]).recipe
    setup = prepared(made)
    kept = trial(made, "kept", setup)
    monkeypatch.setattr("polyrank.engine.store.Shelf.get", lambda self, client: {})
    lost = trial(made, "lost", setup)
    assert kept.rounds[1]["test"] == lost.rounds[1]["test"]
    assert kept.rounds[3]["test"] != lost.rounds[3]["test"]


def test_clients_of_one_base_still_train_at_once(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folds are rounded alike for all, so that four clients still share one base."""
    counts = []

    def counted(bench: Workbench, task: Task, jobs: Sequence[Job]) -> list[tuple[Private, Upload]]:
        counts.append(len(jobs))
        return fit(bench, task, jobs)

    monkeypatch.setattr("polyrank.engine.simulate.fit", counted)
    made = load(recipe, ["algorithm=flora", "wire.down=int4", "engine.group=4"]).recipe
    trial(made, "flora", prepared(made))
    assert counts == [4, 4, 4]


def test_what_a_recipe_will_cost_follows_its_codecs(recipe: Path) -> None:
    plain = costs.of_recipe(load(recipe).recipe)["replicate"]
    small = costs.of_recipe(load(recipe, ["wire.up=topk(0.1)+int8", "wire.down=bf16"]).recipe)
    found = small["replicate"]
    assert plain is not None
    assert found is not None
    assert found.up[8] < 0.4 * plain.up[8]
    assert found.down[8] < 0.75 * plain.down[8]


def test_a_budget_pays_for_what_is_sent(recipe: Path) -> None:
    """A budget of MB buys about four times the ranks where a number is a byte."""
    own = ["lora.ranks={policy: budget, mb: 0.02}", "rounds=1"]

    def ranks(*wire: str) -> int:
        run = trial(made := load(recipe, [*own, *wire]).recipe, "x", prepared(made)).run
        return sum(c["rank"] for c in run["clients"])

    assert 3.5 * ranks() < ranks("wire.up=int8") < 4.5 * ranks()
