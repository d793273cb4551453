"""A recipe out to YAML and back, its digest, and its JSON schema."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from polyrank.recipe import Recipe
from polyrank.recipe.load import bundled, digest, dump, load, schema
from polyrank.recipe.schema import Algorithm, Data, Local, Lora, Output
from polyrank.recipe.values import TRACKERS

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(
    ["1e-3", "1.5", "010", "0x1F", "yes", "no", "null", "~", "", "1:30", "<<", "=", "2026-11-02",
     "- a", "a: b", "#", "'", '"', "*a", "&a", "!a", "60%", ".inf", "1_000", "a\nb", " a ", "\x85"]
).filter(bool)  # fmt: skip
POSITIVE = st.floats(min_value=1e-12, max_value=1e12)
COUNTS = st.integers(1, 10**6)
PATHS = WORDS.map(Path)
RANKS = st.integers(1, 512)
MIXES = st.dictionaries(RANKS, st.integers(1, 99), min_size=1).map(
    lambda parts: {rank: part / sum(parts.values()) for rank, part in parts.items()}
)
OPTIONS = st.dictionaries(
    st.from_regex(r"[a-z_]{2,8}", fullmatch=True).filter(
        lambda key: key not in ("name", "options") and not key.startswith(("model_", "_"))
    ),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS
    | st.lists(st.integers()),
)  # fmt: skip


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    ranks = draw(RANKS | st.lists(RANKS, min_size=1).map(tuple) | MIXES)
    clients = len(ranks) if isinstance(ranks, tuple) else draw(COUNTS)
    source = draw(
        st.fixed_dictionaries({"name": WORDS}, optional={"subset": WORDS})
        | st.fixed_dictionaries({"path": PATHS}, optional={"test": PATHS})
    )
    scale = draw(
        st.fixed_dictionaries({"scale": POSITIVE})
        | st.fixed_dictionaries({"alpha": POSITIVE, "rslora": st.booleans()})
    )
    return Recipe(
        name=draw(st.from_regex(r"[a-z][\w.,=+@-]*", fullmatch=True)),
        model=draw(WORDS),
        data=Data(**source, clients=clients, text=draw(WORDS), partition="shards(2)"),
        lora=Lora(**scale, ranks=ranks, targets=tuple(draw(st.lists(WORDS, min_size=1)))),
        algorithm=Algorithm.model_validate({"name": draw(WORDS)} | draw(OPTIONS)),
        local=Local(lr=draw(POSITIVE), clip=draw(st.none() | POSITIVE), steps=draw(COUNTS)),
        output=Output(dir=draw(PATHS)),
        track=draw(st.permutations(TRACKERS))[: draw(st.integers(0, 3))],
        seed=draw(st.integers(0, 2**63)),
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipe") / "recipe.yaml"


@given(recipe=recipes())
def test_a_dumped_recipe_loads_back_equal(recipe: Recipe, file: Path) -> None:
    file.write_text(dump(recipe), encoding="utf-8", newline="")
    loaded = load(file).recipe
    assert loaded == recipe
    assert dump(loaded) == dump(recipe)
    assert digest(loaded) == digest(recipe)


@given(recipe=recipes())
def test_a_dump_means_the_same_to_every_yaml_reader(recipe: Recipe) -> None:
    values = yaml.safe_load(dump(recipe))
    assert (values["model"], values["data"]["text"]) == (recipe.model, recipe.data.text)
    assert values["local"]["lr"] == recipe.local.lr


def test_a_dump_has_every_key_in_the_schema_s_order() -> None:
    values = yaml.safe_load(dump(Recipe()))
    assert list(values) == list(Recipe.model_fields)
    assert list(values["local"]) == list(Local.model_fields)
    assert values["output"] == {"dir": "runs"}


def test_the_digest_is_of_what_changes_results() -> None:
    plain = Recipe()
    same = (Recipe(name="other"), Recipe(output=Output(dir=Path("elsewhere"))), Recipe(rounds=10),
            Recipe(track=("wandb",)))  # fmt: skip
    other = (
        Recipe(seed=1),
        Recipe(local=Local(lr=2e-3)),
        Recipe(data=Data(name="docstrings", clients=11)),
        Recipe(algorithm=Algorithm.model_validate({"name": "replicate", "fill": "mean"})),
    )
    assert {digest(recipe) for recipe in same} == {digest(plain)}
    assert len({digest(recipe) for recipe in (plain, *other)}) == 1 + len(other)


def test_the_digest_does_not_depend_on_how_a_value_is_written(file: Path) -> None:
    digests = set()
    for ranks in ("{4: 60%, 16: 40%}", "{16: 0.4, 4: 0.6}", "{16: 40.0 %, 4: .6}"):
        file.write_text(f"lora: {{ranks: {ranks}}}\nlocal: {{lr: 1e-3}}")
        digests.add(digest(load(file, ["local.lr=0.001"]).recipe))
    assert len(digests) == 1


# -- the JSON schema ------------------------------------------------------------------------

KINDS = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list}
BOUNDS = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
}


def is_kind(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    return isinstance(value, int | float if kind == "number" else KINDS[kind])


def accepts(part: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """The few words of JSON Schema that the recipe's schema uses."""
    if "$ref" in part:
        return accepts(root["$defs"][part["$ref"].rpartition("/")[2]], value, root)
    for choice in ("anyOf", "oneOf"):
        if choice in part and not any(accepts(item, value, root) for item in part[choice]):
            return False
    if "type" in part and not is_kind(value, part["type"]):
        return False
    if "enum" in part and value not in part["enum"]:
        return False
    if isinstance(value, str):
        long_enough = len(value) >= part.get("minLength", 0)
        return long_enough and re.search(part.get("pattern", ""), value) is not None
    if isinstance(value, list):
        items = part.get("items", {})
        return len(value) >= part.get("minItems", 0) and all(
            accepts(items, item, root) for item in value
        )
    if isinstance(value, dict):
        return accepts_keys(part, value, root)
    return all(test(value, part[bound]) for bound, test in BOUNDS.items() if bound in part)


def accepts_keys(part: dict[str, Any], value: dict[str, Any], root: dict[str, Any]) -> bool:
    known, others = part.get("properties", {}), part.get("additionalProperties", True)
    for key, item in value.items():
        if not accepts(part.get("propertyNames", {}), key, root):
            return False
        rule = known.get(key, others)
        if rule is False or (isinstance(rule, dict) and not accepts(rule, item, root)):
            return False
    return set(part.get("required", ())) <= set(value)


def valid(value: Any) -> bool:
    """By the reference implementation where it is installed, else by the rules above."""
    value = json.loads(json.dumps(value))
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        return accepts(schema(), value, schema())
    return bool(Draft202012Validator(schema()).is_valid(value))


GOOD: list[dict[str, Any]] = [
    {},
    {"data": "docstrings", "algorithm": "fedhl"},
    {"data": {"path": "x.csv", "clients": 3}, "algorithm": {"name": "fedhl", "tau": 2}},
    {"lora": {"ranks": 8}},
    {"lora": {"ranks": [2, 4, 8]}},
    {"lora": {"ranks": {4: "60%", 16: 0.4}}},
    {"local": {"lr": 1, "clip": None, "steps": 5}},
    {"data": {"partition": "dirichlet(0.5)"}},
]
BAD: list[dict[str, Any]] = [
    {"lcoal": {}},
    {"lora": {"rank": 8}},
    {"lora": {"ranks": 0}},
    {"lora": {"ranks": "8"}},
    {"lora": {"ranks": True}},
    {"lora": {"ranks": []}},
    {"lora": {"ranks": [4, 0]}},
    {"lora": {"ranks": {0: "100%"}}},
    {"lora": {"ranks": {4: "most"}}},
    {"lora": {"ranks": {4: 60}}},
    {"lora": {"targets": []}},
    {"data": 5},
    {"data": {"partition": "dirichlet"}},
    {"algorithm": {"tau": 2}},
    {"local": {"lr": 0}},
    {"local": {"optimizer": "adam"}},
    {"rounds": "ten"},
    {"name": "a/b"},
]


@pytest.mark.parametrize("recipe", GOOD, ids=str)
def test_the_schema_accepts_what_loads(recipe: dict[str, Any], file: Path) -> None:
    file.write_text(yaml.safe_dump(recipe | {"data": recipe.get("data", {"clients": 3})}))
    assert load(file).recipe
    assert valid(recipe)


@pytest.mark.parametrize("recipe", BAD, ids=str)
def test_the_schema_refuses_what_does_not_load(recipe: dict[str, Any], file: Path) -> None:
    file.write_text(yaml.safe_dump(recipe))
    with pytest.raises(ValueError, match=re.escape(str(file))):
        load(file)
    assert not valid(recipe)


def test_the_schema_accepts_the_dump_of_every_recipe_of_the_package() -> None:
    for name in bundled():
        assert valid(yaml.safe_load(dump(load(name).recipe)))


def test_the_schema_is_json_that_documents_every_key() -> None:
    document = json.loads(json.dumps(schema()))
    assert document["title"] == "polyrank recipe"
    assert document["$schema"].endswith("2020-12/schema")
    for part in (document, *document["$defs"].values()):
        assert part["description"]
        for key, value in part["properties"].items():
            assert value.get("description") or "$ref" in value, key
