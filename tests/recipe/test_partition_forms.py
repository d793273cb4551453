"""The partition of two alphas, and the keys that hold examples out: forms and mistakes."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from polyrank.errors import RecipeError
from polyrank.recipe.load import load, schema
from polyrank.recipe.schema import Data
from polyrank.recipe.values import mixture

SHARE = "needs a share above 0% and at most 100%"
ALPHA = "needs an alpha above 0"
HINT = "is not a partition; did you mean 'mixed(10%, 100, 0.3)'?"
BAD = {
    "mixed(0%, 100, 0.3)": SHARE,
    "mixed(0.0 %, 100, 0.3)": SHARE,
    "mixed(100.1%, 100, 0.3)": SHARE,
    "mixed(10%, 0, 0.3)": ALPHA,
    "mixed(10%, 100, -0.3)": ALPHA,
    "mixed(10%, 1e999, 0.3)": ALPHA,
    "dirichlet(-1)": ALPHA,
    "mixed(0.1, 100, 0.3)": HINT,
    "mixed(10%, 100)": HINT,
    "mixd(10%, 100, 0.3)": HINT,
}


def load_data(tmp_path: Path, **data: object) -> Data:
    """The data part of a recipe file."""
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump({"data": {"clients": 8, **data}}, width=10**6))
    return load(path).recipe.data


@pytest.mark.parametrize("form", ["mixed(10%, 100, 0.3)", "mixed(12.5 %,1e2,.3)"])
def test_two_alphas_load(tmp_path: Path, form: str) -> None:
    data = load_data(tmp_path, partition=form)
    assert data.partition == form
    assert data.partition_kind[0] == "mixed"
    pattern = schema()["$defs"]["Data"]["properties"]["partition"]["pattern"]
    assert re.search(pattern, form)


def test_two_alphas_load_from_the_command_line() -> None:
    data = load("demo", ["data.partition=mixed(10%, 100, 0.3)"]).recipe.data
    assert data.partition == "mixed(10%, 100, 0.3)"


@pytest.mark.parametrize("form", BAD)
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, form: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_data(tmp_path, partition=form)
    assert str(caught.value).endswith(f"demo.yaml:3: data.partition: {form!r} {BAD[form]}")


@given(st.integers(1, 100), st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_the_arguments_are_read_exactly(percent: int, even: float, skewed: float) -> None:
    form = f"mixed({percent}%, {even!r}, {skewed!r})"
    assert Data(partition=form).partition == form
    assert mixture(form) == (Fraction(percent, 100), even, skewed)
    assert mixture(f"dirichlet({even!r})") is None


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("validation", 1, "1 must be below 1"),
        ("validation", -0.1, "-0.1 must be at least 0"),
        ("evaluate_on", "dev", "'dev' is unknown; valid: test, validation"),
    ],
)
def test_what_cannot_be_held_out(tmp_path: Path, key: str, value: object, problem: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"data.{key}: ")) as caught:
        load_data(tmp_path, **{key: value})
    assert problem in str(caught.value)
