"""What a plan says beforehand is what a run then takes."""

from pathlib import Path

import pytest

import polyrank
from polyrank.client.memory import profile
from polyrank.experiment.plan import plan
from polyrank.experiment.setup import prepare


def test_bytes_and_memory_by_rank(recipe: Path) -> None:
    made = polyrank.load_recipe(recipe, ["rounds=2", "lora.ranks=[1,1,4,8]"])
    found = {one.rank: one for one in plan(made)}
    assert {rank: one.clients for rank, one in found.items()} == {1: 2, 4: 1, 8: 1}
    last = polyrank.run(made).records.rounds[-1]
    for client in last["clients"]:
        one = found[client["rank"]]
        assert one.up == pytest.approx(client["up"]["total"], rel=0.05)
        assert one.down == pytest.approx(client["down"]["total"], rel=0.05)
    needs = profile(prepare(made).bench, 8, 16)
    assert all(one.memory == needs.peak(rank) for rank, one in found.items())
    assert all(one.seconds > 0 for one in found.values())
