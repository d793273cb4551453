"""What `polyrank plan` says is what then happens (time and memory: `make bench ONLY=plan`)."""

from pathlib import Path

import pytest

from polyrank import api
from polyrank.client.memory import profile
from polyrank.experiment import planning
from polyrank.experiment.planning import Need, needs
from polyrank.experiment.ready import prepared
from polyrank.experiment.setup import moments, text_length
from polyrank.recipe.load import load


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which a round takes 3 s and each step 2 s, whatever the client."""
    now = 0.0

    def fit(bench: object, task: planning.passing.Task, jobs: object) -> None:
        nonlocal now
        now += 3.0 + 2.0 * (task.local.steps or 0)

    monkeypatch.setattr(planning, "fit", fit)
    monkeypatch.setattr(planning.time, "perf_counter", lambda: now)


def test_it_says_what_a_run_then_does(recipe: Path) -> None:
    loaded = load(recipe, ["rounds=2", "algorithm=fedhl"]).recipe
    found = {one.rank: one for one in needs(loaded)}
    assert sorted(found) == [1, 2, 4, 8]
    records = api.run(loaded).records
    for client in records.rounds[2]["clients"]:
        one = found[client["rank"]]
        assert one.clients == 1
        assert one.examples == client["examples"]
        assert one.steps == client["metrics"]["steps"]
        assert one.down == pytest.approx(client["down"]["total"], rel=0.02)
        assert one.up == pytest.approx(client["up"]["total"], rel=0.05)
        assert 0 < one.seconds < 60


def test_memory_rises_with_the_rank_as_a_steps_does(recipe: Path) -> None:
    loaded = load(recipe).recipe
    setup = prepared(loaded)
    step = profile(setup.bench, loaded.local.batch, text_length(loaded), moments(loaded))
    low, *_, high = needs(loaded)
    messages = 2 * (high.up + high.down - low.up - low.down)
    assert high.memory - low.memory == step.peak(high.rank) - step.peak(low.rank) + messages > 0
    assert low.memory > step.peak(low.rank)  # the process is more than its tensors


@pytest.mark.usefixtures("slow_clock")
def test_a_round_is_its_start_and_its_steps(recipe: Path) -> None:
    for one in needs(load(recipe, ["local.epochs=3"]).recipe):
        assert one.seconds == pytest.approx(3.0 + 2.0 * one.steps)


def test_between_two_ranks_time_is_on_a_line() -> None:
    ends = {2: planning.Pace(1.0, 0.5), 10: planning.Pace(3.0, 1.5)}
    assert planning._between(ends, 4) == planning.Pace(1.5, 0.75)
    assert planning._between({2: ends[2]}, 2) == ends[2]


def test_of_a_rank_the_client_with_the_most_examples_counts(recipe: Path) -> None:
    """The slowest is who a round waits for."""
    own = ["lora.ranks=4", "data.partition=dirichlet(0.3)"]
    (one,) = needs(load(recipe, own).recipe)
    sizes = prepared(load(recipe, own).recipe).parts
    assert isinstance(one, Need)
    assert (one.clients, one.examples) == (4, max(len(part) for part in sizes.values()))
