"""The README's code does what it says."""

import re
from pathlib import Path

import pytest
import yaml

from polyrank import Recipe
from polyrank.algorithms import about, names

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_library_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert re.fullmatch(r"\d+\.\d%, adapter in runs/mine/adapter\n", capsys.readouterr().out)
    assert (tmp_path / "runs/mine/adapter/adapter_model.safetensors").exists()
    assert (tmp_path / "runs/mine/report.html").exists()


def test_the_recipe_example_is_valid() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    recipe = Recipe.model_validate(yaml.safe_load(text.replace("1e-3", "0.001")))
    assert recipe.data.partition == "dirichlet(0.3)"


def test_every_algorithm_is_listed_with_its_paper() -> None:
    for name in names():
        paper = about(name).paper
        number = re.search(r"arXiv (\d{4}\.\d{5})", paper)
        assert number is not None or paper == "this project"
        cell = rf"\[{number[1]}\]" if number else paper
        assert re.search(rf"\| `{name}` \| {cell}", README)
