"""What `polyrank algorithms RECIPE` says of bytes is what a real second round sends."""

from pathlib import Path

import pytest

from polyrank import api
from polyrank.algorithms import about, names
from polyrank.experiment import costs
from polyrank.recipe.load import load

METRICS = 60  # bytes of a real upload that say how its training went: loss and steps


@pytest.mark.parametrize(
    "name", ["zero-pad", "flora", "catchup", "fed-plora", "rolora", "fedsa-lora"]
)
def test_measured_bytes_are_those_of_a_real_second_round(recipe: Path, name: str) -> None:
    loaded = load(recipe, [f"algorithm={name}", "rounds=2"]).recipe
    found = costs.of_recipe(loaded)[name]
    assert found is not None
    for client in api.run(loaded).records.rounds[2]["clients"]:
        rank = client["rank"]
        assert found.down[rank] == pytest.approx(client["down"]["total"], abs=16)
        assert found.up[rank] == pytest.approx(client["up"]["total"] - METRICS, abs=24)


def test_the_second_round_carries_what_the_first_added_up(recipe: Path) -> None:
    """FLoRA sends the stack of all four clients, whatever the rank of the one that gets it."""
    found = costs.of_recipe(load(recipe).recipe)
    flora, fedhl = found["flora"], found["fedhl"]
    assert flora is not None
    assert fedhl is not None
    assert len(set(flora.down.values())) == 1
    assert flora.down[1] > fedhl.down[8] > fedhl.down[1]


def test_every_algorithm_has_a_cost_at_equal_ranks_and_those_for_mixed_ones_otherwise(
    recipe: Path,
) -> None:
    mixed = costs.of_recipe(load(recipe).recipe)
    assert {name for name in names() if mixed[name] is None} == {
        name for name in names() if not about(name).mixed
    }
    equal = costs.of_recipe(load(recipe, ["lora.ranks=4"]).recipe)
    for name in names():
        found = equal[name]
        assert found is not None
        assert set(found.up) == set(found.down) == {4}


def test_the_options_of_the_recipes_algorithm_count(recipe: Path) -> None:
    down = []
    for tau in (0.3, 1.0):
        found = costs.of_recipe(load(recipe, [f"algorithm={{name: florist, tau: {tau}}}"]).recipe)
        assert found["florist"] is not None
        down.append(found["florist"].down[1])
    assert down[0] < down[1]
