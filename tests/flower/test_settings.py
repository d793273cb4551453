"""The run config of an app; the order of answers; what a node states of itself."""

from pathlib import Path
from typing import Any

import pytest

from polyrank.errors import MessageError, PolyrankError
from polyrank.flower import payload
from polyrank.flower.inorder import in_order
from polyrank.flower.settings import settings
from polyrank.flower.stated import stated


def test_a_recipe_comes_by_name_by_path_or_whole(recipe: Path) -> None:
    assert settings({"recipe": "demo"}).recipe.name == "demo"
    by_path = settings({"recipe": str(recipe), "folder": "/srv/run", "min-nodes": 3})
    assert (by_path.folder, by_path.least, by_path.deadline) == (Path("/srv/run"), 3, 600.0)
    whole = settings({"recipe": recipe.read_text(), "deadline": 9})
    assert whole.recipe == by_path.recipe
    assert whole.folder == whole.recipe.output.dir / "tiny"


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({}, "run config: recipe is missing"),
        ({"recipe": "demo", "node": 3}, "run config: unknown key 'node'; valid: recipe, folder"),
        ({"recipe": "demo", "min-nodes": 0}, "min-nodes is 0; give a whole number from 1"),
        ({"recipe": "demo", "deadline": -1}, "deadline is -1; give seconds above 0"),
        ({"recipe": "demo", "folder": "here"}, "folder is 'here'; give an absolute path"),
        ({"recipe": "rounds: 0\n"}, "run config: recipe:1: rounds: 0"),
        ({"recipe": "demmo"}, "demmo: no such recipe; did you mean 'demo'?"),
    ],
)
def test_a_run_config_that_cannot_be_is_one_line(config: dict[str, Any], line: str) -> None:
    with pytest.raises(PolyrankError) as caught:
        settings(config)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_answers_come_in_the_order_of_the_questions() -> None:
    failed = MessageError("no")
    arrived = [("c", ({"x": 1}, b"cc")), ("b", failed), ("a", ({}, b"a")), ("e", ({}, b"e"))]
    found = list(in_order(["a", "b", "c", "d", "e"], arrived))
    assert found == [
        ("a", ({}, b"a")), ("b", failed), ("c", ({"x": 1}, b"cc")), ("d", None), ("e", ({}, b"e")),
    ]  # fmt: skip
    assert list(in_order([], [])) == []


GOOD = {
    "site": "a",
    "client": "0",
    "rank": 0,
    "own": 0,
    "examples": 5,
    "counts": "[2, 3]",
    "memory": 900,
    "measured": 1,
}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"examples": 6}, "a states 6 examples, but 5 by class"),
        ({"examples": "5"}, "gave no well-formed answer"),
        ({"counts": "[5]"}, "a counts 1 classes, where there are 2"),
        ({"counts": "[" * 100_000}, "gave no well-formed answer"),
        ({"rank": -1}, "gave no well-formed answer"),
        ({"memory": "900"}, "gave no well-formed answer"),
        ({"failure": "no disk\nleft"}, "node 7 cannot take part: no disk left"),
    ],
)
def test_what_a_node_states_is_read_strictly(change: dict[str, Any], line: str) -> None:
    assert stated(7, GOOD, ("x", "y")).counts == (2, 3)
    with pytest.raises(MessageError) as caught:
        stated(7, {**GOOD, **change}, ("x", "y"))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_node_states_no_more_than_can_be_read() -> None:
    long = payload.packed({**GOOD, "site": "x" * (payload.WORDS + 1)})
    assert payload.taken(long)[0]["client"] == "0"  # of the server, which nodes trust with that
    with pytest.raises(MessageError, match="its facts are more than"):
        payload.taken(long, 100)
