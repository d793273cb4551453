"""Whatever is given, it is a recipe or one line."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from polyrank.errors import RecipeError
from polyrank.recipe.load import load

KEYS = st.sampled_from(
    ["data", "lora", "algorithm", "local", "ranks", "targets", "scale", "alpha", "name", "path",
     "partition", "clients", "lr", "steps", "rounds", "seed", "output", "dir", "rank", 4, 8]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES | st.sampled_from(["60%", "iid", "dirichlet(0.5)", "docstrings", "adamw"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | LEAVES, inner, max_size=3),
    max_leaves=6,
)
PATHS = st.lists(KEYS.map(str) | st.text(max_size=3), max_size=3).map(".".join)


def load_or_one_line(path: Path, *overrides: str) -> None:
    line = ""
    try:
        load(path, overrides)
    except RecipeError as error:
        line = str(error)
    assert len(line.splitlines()) <= 1


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipe") / "demo.yaml"


@given(text=st.text())
def test_any_text_is_a_recipe_or_one_line(text: str, file: Path) -> None:
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    load_or_one_line(file)


@given(values=st.dictionaries(KEYS, VALUES))
def test_any_mapping_is_a_recipe_or_one_line(values: dict[object, object], file: Path) -> None:
    file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    load_or_one_line(file)


@given(overrides=st.lists(st.tuples(PATHS, VALUES | st.text()), max_size=3))
def test_any_override_is_a_recipe_or_one_line(
    overrides: list[tuple[str, object]], file: Path
) -> None:
    file.write_text("algorithm: fedhl\ndata: {path: x, clients: 3}\nlora: {ranks: [1, 2, 3]}")
    flow = {"default_flow_style": True, "width": 10**6}
    load_or_one_line(
        file,
        *(
            f"{key}={value if isinstance(value, str) else yaml.safe_dump(value, **flow)}"
            for key, value in overrides
        ),
    )
