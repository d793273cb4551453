"""Rank policies and options of every algorithm, in whole runs on a tiny model."""

from pathlib import Path

import pytest

import polyrank
from polyrank.algorithms import about, names
from polyrank.errors import RecipeError
from polyrank.experiment.events import Event, RoundDone
from polyrank.experiment.ready import planned, prepared
from polyrank.experiment.trial import trial
from polyrank.lora import peft
from polyrank.messages import Upload
from polyrank.report.records import RunRecords
from polyrank.server.loop import Reply

MIXED = [n for n in names() if about(n).mixed]
QUALITY = "{policy: quality, low: 2, high: 6, share: 25%}"


def load(recipe: Path, *overrides: str) -> polyrank.Recipe:
    return polyrank.load_recipe(recipe, overrides)


def ranks_by_round(records: RunRecords) -> list[dict[str, int]]:
    return [{c["id"]: c["rank"] for c in r["clients"]} for r in records.rounds[1:]]


@pytest.mark.parametrize("name", MIXED)
def test_the_best_clients_are_promoted_after_the_warm_up(name: str, recipe: Path) -> None:
    made = load(
        recipe, f"algorithm={name}", f"lora.ranks={QUALITY}", "data.validation=0.3",
        "data.partition=iid", "participation=0.5", "rounds=4",
    )  # fmt: skip
    records = trial(made, name, prepared(made))
    first, *later = ranks_by_round(records)
    assert first == dict.fromkeys("0123", 2)  # everybody takes part in the warm-up
    losses = {c["id"]: c["metrics"]["val_loss"] for c in records.rounds[1]["clients"]}
    best = min(losses, key=lambda id: losses[id])
    for ranks in later:
        assert len(ranks) == 2
        assert ranks == {id: 6 if id == best else 2 for id in ranks}
    assert best in {id for ranks in later for id in ranks}
    assert not any(r["left_out"] for r in records.rounds[1:])


def test_a_client_that_says_nothing_of_its_loss_is_promoted_last(recipe: Path) -> None:
    made = load(recipe, f"lora.ranks={QUALITY}", "data.validation=0.3")
    plan, _ = planned(made, prepared(made))
    said = [{"val_loss": 0.5}, {}, {"val_loss": 0.4}, {"val_loss": float("nan")}]
    uploads = [Upload(c, {}, 1, metrics=m) for c, m in zip(plan.clients, said, strict=True)]
    found = plan.promote(1, [Reply(u.client, u) for u in uploads])
    assert found == {"0": 2, "1": 2, "2": 6, "3": 2}


def test_promotion_survives_a_stop(recipe: Path) -> None:
    made = [
        load(recipe, f"lora.ranks={QUALITY}", "data.validation=0.3", f"name={n}", "rounds=3")
        for n in ("whole", "part")
    ]
    whole = polyrank.run(made[0])

    def stop(event: Event) -> None:
        if isinstance(event, RoundDone) and event.record["round"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        polyrank.run(made[1], watch=stop)
    (resumed,) = polyrank.resume(made[1].output.dir / "part")
    assert ranks_by_round(resumed.records) == ranks_by_round(whole.records)
    one, two = (peft.load(r.adapter).factors for r in (whole, resumed))
    assert all((one[n].delta == two[n].delta).all() for n in one)


def test_quality_needs_examples_to_measure_it_on(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"lora.ranks.policy: quality needs data.validation"):
        polyrank.run(load(recipe, f"lora.ranks={QUALITY}"))


def test_a_budget_is_what_a_round_uploads(recipe: Path) -> None:
    cost = 4 * 2 * ((48 + 16) + (16 + 64))  # bytes per unit of rank, two layers of each shape
    budget = 30 * cost / 1e6
    made = load(recipe, f"lora.ranks={{policy: budget, mb: {budget}, most: 12}}")
    records = trial(made, "replicate", prepared(made))
    sent = [sum(c["up"]["factors"] for c in r["clients"]) for r in records.rounds[1:]]
    assert sent == [30 * cost] * 3
    held = {c["id"]: (c["rank"], c["examples"]) for c in records.run["clients"]}
    assert sorted(held.values()) == sorted(
        held.values(), key=lambda x: x[1]
    )  # more data, more rank
    with pytest.raises(RecipeError, match=r"0.001 MB is too little .* the smallest that works is"):
        polyrank.run(load(recipe, "lora.ranks={policy: budget, mb: 0.001}"))


def test_memory_decides_the_rank(recipe: Path) -> None:
    made = load(recipe, "lora.ranks={policy: memory, gib: [0.5, 0.5, 1, 2], most: 16}")
    records = trial(made, "replicate", prepared(made))
    assert {c["rank"] for c in records.run["clients"]} == {16}  # a tiny model fits everywhere
    with pytest.raises(RecipeError, match=r"lora.ranks.*GiB"):
        polyrank.run(load(recipe, "lora.ranks={policy: memory, gib: 0.0001}"))


@pytest.mark.parametrize("name", ["zero-pad", "fedhl", "catchup"])
@pytest.mark.parametrize("how", ["momentum", "adam"])
def test_a_server_optimizer_learns(name: str, how: str, recipe: Path) -> None:
    over = [f"algorithm={name}", f"aggregation.optimizer={how}", "aggregation.momentum=0.5"]
    made = load(recipe, *over, "aggregation.lr=0.003" if how == "adam" else "aggregation.lr=0.5")
    plain = load(recipe, f"algorithm={name}")
    stepped, usual = (trial(m, name, prepared(m)) for m in (made, plain))
    assert stepped.rounds[-1]["test"]["loss"] < stepped.rounds[0]["test"]["loss"]
    assert stepped.rounds[-1]["test"] != usual.rounds[-1]["test"]


def test_an_algorithm_that_cannot_be_stepped_says_which_can(recipe: Path) -> None:
    message = r"aggregation.optimizer: flora sends what it added up.*catchup"
    with pytest.raises(RecipeError, match=message):
        polyrank.run(load(recipe, "algorithm=flora", "aggregation.optimizer=momentum"))


@pytest.mark.parametrize("weights", ["uniform", "norm", "fedhl(2)", "regularised", "coherent(0.5)"])
def test_every_weighting_works_under_an_algorithm_that_does_not_know_it(
    weights: str, recipe: Path
) -> None:
    made = load(recipe, "algorithm=replicate", f"aggregation.weights={weights}")
    records = trial(made, weights, prepared(made))
    for record in records.rounds[1:]:
        p = [c["weight"] for c in record["clients"]]
        assert sum(p) == pytest.approx(1)
        if weights == "uniform":
            assert p == pytest.approx([0.25] * 4)


def test_weights_per_layer(recipe: Path) -> None:
    over = ["algorithm=fedhl", "aggregation.weights=regularised(5)"]
    one, each = load(recipe, *over), load(recipe, *over, "aggregation.per_layer=true")
    first, second = (trial(m, "fedhl", prepared(m)) for m in (one, each))
    assert first.rounds[-1]["test"] != second.rounds[-1]["test"]


def test_the_probed_client_is_measured_before_and_after(recipe: Path) -> None:
    made = load(recipe, "evaluation.probe=2", "evaluation.probe_examples=45")
    records = trial(made, "replicate", prepared(made))
    for record in records.rounds[1:]:
        by_rank = {p["rank"]: p for p in record["probes"]}
        assert set(by_rank) == {8, 4}
        # the highest rank holds the global model after the aggregation
        assert by_rank[8]["after"] == pytest.approx(record["test"]["accuracy"])
