"""What a client keeps for validation is its own, and is never trained on."""

from collections import Counter

import pytest

from polyrank.experiment.setup import Setup, prepare
from polyrank.recipe.load import load


def prepared(recipe, *overrides) -> Setup:
    """The setup of the tiny recipe, with other values."""
    return prepare(load(recipe, overrides).recipe)


@pytest.mark.parametrize("partition", ["dirichlet(1.0)", "mixed(25%, 100, 0.3)"])
def test_each_client_keeps_a_share_of_its_own(recipe, partition):
    usual = prepared(recipe, f"data.partition={partition}")
    setup = prepared(recipe, f"data.partition={partition}", "data.validation=0.2")
    assert not any(map(len, usual.validation.values()))
    assert list(setup.validation) == list(setup.parts) == list(usual.parts)
    for id, held in usual.parts.items():
        assert sorted([*setup.parts[id], *setup.validation[id]]) == held.tolist()
        assert len(setup.validation[id]) == (max(1, round(0.2 * len(held))) if len(held) > 1 else 0)
        trained = Counter(setup.train.labels[i].item() for i in setup.parts[id])
        assert setup.histogram(id) == [trained[label] for label in range(3)]
    again = prepared(recipe, f"data.partition={partition}", "data.validation=0.2")
    for kind in ("parts", "validation"):
        before, after = getattr(setup, kind), getattr(again, kind)
        assert {id: own.tolist() for id, own in before.items()} == {
            id: own.tolist() for id, own in after.items()
        }


def test_the_server_can_evaluate_on_a_share_of_the_training_data(recipe):
    setup = prepared(recipe, "data.evaluate_on=validation", "data.held_out=0.5")
    assert (len(setup.train), len(setup.test)) == (45, 45)
    assert sum(map(len, setup.parts.values())) == 45


def test_a_shared_validation_set_is_the_same_for_all_and_nobodys_own(recipe):
    keys = ("data.validation=0.2", "data.validation_set=shared", "data.partition=dirichlet(0.5)")
    setup = prepared(recipe, *keys)
    (shared,) = {tuple(v.tolist()) for v in setup.validation.values()}
    assert len(shared) == 18
    trained = [i for part in setup.parts.values() for i in part]
    assert sorted([*trained, *shared]) == list(range(90))
