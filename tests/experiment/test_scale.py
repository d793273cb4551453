"""Very many clients: nothing with a tensor is made for each, and few are measured."""

import gc
import json
from pathlib import Path

import pytest
import torch

from polyrank.experiment import measuring
from polyrank.experiment.ready import prepared
from polyrank.experiment.running import begin, final, first
from polyrank.experiment.trial import trial
from polyrank.recipe.load import load
from polyrank.server.loop import train
from tests.conftest import texts


@pytest.fixture(scope="module")
def plenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with more texts than there are clients."""
    folder = tmp_path_factory.mktemp("plenty")
    for name, count in (("train", 12_000), ("test", 9)):
        lines = "".join(json.dumps(row) + "\n" for row in texts(count))
        (folder / f"{name}.jsonl").write_text(lines)
    return folder


def asked(recipe: Path, plenty: Path, clients: int, *more: str):
    keys = (
        f"data.path={plenty}", f"data.clients={clients}", f"participation={10 / clients}",
        "data.partition=iid", "lora.ranks={1: 60%, 2: 30%, 4: 10%}", "rounds=1",
        "local.steps=1", "engine.group=4",
    )  # fmt: skip
    return load(recipe, [*keys, *more]).recipe


def alive() -> tuple[int, int]:
    """Tensors that are alive, and the bytes of their memory, each counted once."""
    gc.collect()
    found = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]
    blocks = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in found}
    return len(found), sum(blocks.values())


@pytest.mark.parametrize("algorithm", ["replicate", "flora"])
def test_tensors_do_not_grow_with_the_clients(recipe, plenty, algorithm):
    counts = {}
    for clients in (100, 2000):
        before = alive()
        made = asked(recipe, plenty, clients, f"algorithm={algorithm}")
        run = begin(made, prepared(made), None)
        first(run, "many")
        for done in train(run.plan, run.exchange, run.federation):
            run.accept(done)
        counts[clients] = [now - then for now, then in zip(alive(), before, strict=True)]
        del run, done
    few, many = counts[100], counts[2000]
    assert few[0] > 20
    assert abs(many[0] - few[0]) <= 10
    # where each client's indices begin is one number; ranks of a round's clients may differ a bit
    assert many[1] - few[1] <= 8 * 2000 + 40_000


@pytest.mark.parametrize("algorithm", ["replicate", "catchup", "fedsa-lora"])
def test_a_round_of_ten_thousand_clients_runs(recipe, plenty, algorithm):
    made = asked(recipe, plenty, 10_000, f"algorithm={algorithm}", "evaluation.clients=7")
    found = trial(made, algorithm, prepared(made))
    assert len(found.run["clients"]) == 10_000
    assert len(found.rounds[1]["clients"]) == 10
    measured = found.final["clients"] if found.final else []
    assert len(measured) == (7 if algorithm == "fedsa-lora" else 0)


def test_whose_models_are_measured_is_drawn_and_said(recipe, plenty):
    def end(*more: str):
        made = asked(recipe, plenty, 40, *more)
        run = begin(made, prepared(made), None)
        for done in train(run.plan, run.exchange, run.federation):
            run.accept(done)
        return final(run, {"loss": 1.0, "accuracy": 0.0}, 0.0, run.plan.clients)

    some, others = end("evaluation.clients=9"), end("evaluation.clients=9", "seed=1")
    assert (len(some["clients"]), some["of"]) == (9, 40)
    ids = [[c["id"] for c in one["clients"]] for one in (some, others)]
    assert ids[0] == sorted(ids[0]) != ids[1]
    assert len(end("evaluation.clients=null")["clients"]) == 40


@pytest.mark.parametrize("algorithm", ["replicate", "flora", "catchup", "fedsa-lora"])
def test_models_measured_at_once_have_the_scores_of_each_alone(
    recipe, plenty, algorithm, monkeypatch
):
    def ends(group: int) -> list[dict[str, float]]:
        keys = (f"algorithm={algorithm}", "rounds=2", "data.train_examples=60")
        made = asked(recipe, plenty, 10, *keys, "evaluation.batch=8")
        run = begin(made, prepared(made), None)
        for done in train(run.plan, run.exchange, run.federation):
            run.accept(done)
        run.simulator.group = group
        placed.clear()
        return final(run, {"loss": 1.0, "accuracy": 0.0}, 0.0, run.plan.clients)["clients"]

    placed, score_all = [], measuring.score_all

    def counted(*how):
        placed.append(how[3])
        return score_all(*how)

    monkeypatch.setattr(measuring, "score_all", counted)
    alone = ends(1)
    assert set(placed) == {1}
    together = ends(4)
    if algorithm in ("replicate", "fedsa-lora"):  # elsewhere one model, or a base for each rank
        assert max(placed) > 1
    for one, other in zip(alone, together, strict=True):
        assert one["id"] == other["id"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["accuracy"] == pytest.approx(other["accuracy"], abs=1 / 9 + 1e-9)
