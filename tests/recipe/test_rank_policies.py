"""Policies that find ranks: their mistakes, their dump, their JSON schema."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from polyrank.errors import RecipeError
from polyrank.recipe import Recipe
from polyrank.recipe.load import digest, dump, load, schema
from polyrank.recipe.policies import Budget, Memory, Quality
from polyrank.recipe.schema import Data, Lora

GIB = "a memory in GiB (a number above 0)"
GIBS = f"{GIB}, a list such as [0.5, 2] or a mix such as {{0.5: 60%, 2: 40%}}"
POSITIVE = st.floats(min_value=1e-9, max_value=1e9)
RANKS = st.integers(1, 512)
MIXES = st.dictionaries(POSITIVE, st.integers(1, 99), min_size=1).map(
    lambda parts: {gib: part / sum(parts.values()) for gib, part in parts.items()}
)
POLICIES = (
    st.builds(Budget, policy=st.just("budget"), mb=POSITIVE, most=RANKS)
    | st.builds(
        Memory,
        policy=st.just("memory"),
        gib=POSITIVE | st.lists(POSITIVE, min_size=1).map(tuple) | MIXES,
        most=RANKS,
    )
    | st.builds(
        Quality,
        policy=st.just("quality"),
        low=RANKS,
        high=st.integers(513, 999),
        share=st.floats(0, 1, exclude_min=True),
        warmup=RANKS,
    )
)

MISTAKES = {
    "{policy: bugdet, mb: 1}": "policy: 'bugdet' is unknown; did you mean 'budget'?",
    "{policy: 3}": "policy: '3' is unknown; valid: budget, memory, quality",
    "{policy: budget}": "mb: is missing",
    "{policy: budget, mb: 0}": "mb: 0 must be above 0",
    "{policy: budget, mb: lots}": "mb: 'lots' is not a number (above 0)",
    "{policy: budget, mb: .inf}": "mb: inf is not a finite number (above 0)",
    "{policy: budget, mb: 1, most: 0}": "most: 0 must be at least 1",
    "{policy: budget, mb: 1, mots: 8}": "mots: unknown key; did you mean 'most'?",
    "{policy: budget, gib: 1, mb: 1}": "gib: unknown key; valid: mb, most, policy",
    "{policy: budget, mb: 1, 4: 50%}": "4: unknown key; valid: mb, most, policy",
    "{policy: memory, gib: 0}": f"gib: 0 is not {GIB}",
    "{policy: memory, gib: much}": f"gib: 'much' is not {GIBS}",
    "{policy: memory, gib: []}": "gib: [] is empty",
    "{policy: memory, gib: [1, -1]}": f"gib: -1 is not {GIB}",
    "{policy: memory, gib: [1, 2]}": "gib: 2 sizes for 10 clients; a list has one size for each "
    "client",
    "{policy: memory, gib: {0: 100%}}": f"gib: 0 is not {GIB}",
    "{policy: memory, gib: {1: most}}": "gib: 'most' is not a share, such as 60% or 0.6",
    "{policy: memory, gib: {1: 60%}}": "gib: {1: '60%'} adds up to 60%, not 100%",
    "{policy: quality, low: 5, high: 5}": "high: 5 must be above lora.ranks.low 5",
    "{policy: quality, low: 20, high: 5}": "high: 5 must be above lora.ranks.low 20",
    "{policy: quality, share: 0}": "share: 0 must be above 0",
    "{policy: quality, share: 0%}": "share: '0%' must be above 0",
    "{policy: quality, share: some}": "share: 'some' is not a share, such as 60% or 0.6",
    "{policy: quality, warmup: 0}": "warmup: 0 must be at least 1",
    "{policy: quality, low: x}": "low: 'x' is not a whole number (at least 1)",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipe") / "recipe.yaml"


@pytest.mark.parametrize("ranks", MISTAKES)
def test_a_wrong_policy_is_one_line(ranks: str, file: Path) -> None:
    file.write_text(f"lora:\n  ranks: {ranks}")
    with pytest.raises(RecipeError) as caught:
        load(file)
    assert str(caught.value) == f"{file}:2: lora.ranks.{MISTAKES[ranks]}"


def test_each_key_and_element_of_a_policy_has_its_own_line(file: Path) -> None:
    file.write_text("lora:\n  ranks:\n    policy: memory\n    gib:\n    - 1\n    - 0\n    most: x")
    with pytest.raises(RecipeError) as caught:
        load(file)
    assert str(caught.value) == f"{file}:6: lora.ranks.gib: 0 is not {GIB} (and 1 more)"


@given(policy=POLICIES)
def test_a_dumped_policy_loads_back_equal(policy: Budget | Memory | Quality, file: Path) -> None:
    gib = policy.gib if isinstance(policy, Memory) else None
    clients = len(gib) if isinstance(gib, tuple) else 10
    recipe = Recipe(lora=Lora(ranks=policy), data=Data(clients=clients))
    file.write_text(dump(recipe), encoding="utf-8")
    loaded = load(file).recipe
    assert loaded == recipe
    assert type(loaded.lora.ranks) is type(policy)
    assert (dump(loaded), digest(loaded)) == (dump(recipe), digest(recipe))
    assert yaml.safe_load(dump(recipe))["lora"]["ranks"]["policy"] == policy.policy


def test_the_digest_does_not_depend_on_how_a_memory_is_written(file: Path) -> None:
    digests = set()
    for gib in ("{0.5: 60%, 2: 40%}", "{2.0: 0.4, .5: 0.6}", "{5e-1: 60 %, 2e0: .4}"):
        file.write_text(f"lora: {{ranks: {{policy: memory, gib: {gib}}}}}")
        digests.add(digest(load(file).recipe))
    assert len(digests) == 1


def test_a_list_of_memories_may_have_any_length_where_the_data_tell_the_clients() -> None:
    ranks = Memory(policy="memory", gib=(1.0, 2.0))
    recipe = Recipe(lora=Lora(ranks=ranks), data=Data(partition="key(speaker)"))
    assert recipe.lora.ranks == ranks


def test_a_policy_can_be_changed_on_the_command_line(file: Path) -> None:
    file.write_text("lora:\n  ranks: {policy: budget, mb: 12.5}")
    assert load(file, ["lora.ranks.mb=3"]).recipe.lora.ranks == Budget(policy="budget", mb=3)
    assert load(file, ["lora.ranks=8"]).recipe.lora.ranks == 8


def test_a_policy_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Quality(policy="quality").low = 3


def forms(root: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schema of each policy, by name."""
    choices = root["$defs"]["Lora"]["properties"]["ranks"]["oneOf"]
    parts = [root["$defs"][c["$ref"].rpartition("/")[2]] for c in choices if "$ref" in c]
    return {part["properties"]["policy"]["const"]: part for part in parts}


def test_the_schema_describes_every_policy() -> None:
    found = forms(json.loads(json.dumps(schema())))
    assert set(found) == {"budget", "memory", "quality"}
    for part in found.values():
        assert part["description"]
        assert part["additionalProperties"] is False
        assert "policy" in part["required"]
        assert all(value["description"] for value in part["properties"].values())
    assert found["budget"]["properties"]["mb"]["exclusiveMinimum"] == 0
    mix = found["memory"]["properties"]["gib"]["oneOf"][2]
    pattern = mix["propertyNames"]["pattern"]
    given = ("0.5", "2", "10.0", "1e-05", "0", "0.0", "x", "-1")
    assert [key for key in given if re.search(pattern, key)] == ["0.5", "2", "10.0", "1e-05"]
