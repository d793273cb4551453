"""docs/add-an-algorithm.md, followed to the letter."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyrank import algorithms
from polyrank.cli import main
from polyrank.experiment.folder import opened
from polyrank.report import records

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/add-an-algorithm.md").read_text()
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(FILE,) = re.findall(r"`src/polyrank/algorithms/(\w+\.py)`", PAGE)
CONTRACT, COMPARE = (shlex.split(line) for line in re.findall(r"^    \.venv/bin/(.*)$", PAGE, re.M))
NAME = FILE.removesuffix(".py").replace("_", "-")
# What `pytest` loads so that the package is found to have one file more.
PLUGIN = """
def pytest_configure():
    from polyrank import algorithms
    algorithms.__path__.append({folder!r})
"""


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the package's path with the page's file in it."""
    folder = tmp_path / "algorithms"
    folder.mkdir()
    (folder / FILE).write_text(CODE)
    monkeypatch.setattr(algorithms, "__path__", [*algorithms.__path__, str(folder)])
    yield folder
    module = FILE.removesuffix(".py")
    sys.modules.pop(f"polyrank.algorithms.{module}", None)
    vars(algorithms).pop(module, None)


def test_the_page_fits_a_screen() -> None:
    assert len(PAGE.splitlines()) < 60
    assert len(CODE.splitlines()) < 45
    assert max(map(len, PAGE.splitlines())) <= 100


def test_the_file_alone_makes_an_algorithm_with_options(added: Path) -> None:
    assert NAME in algorithms.names()
    assert algorithms.summary(NAME).startswith("Soft padding")
    assert algorithms.options(NAME) == {"power": 0.5}
    assert algorithms.load(NAME, power=0.8)
    with pytest.raises(algorithms.RecipeError, match="no such option; did you mean 'power'"):
        algorithms.load(NAME, powr=0.8)


def test_it_keeps_the_contract(added: Path) -> None:
    (added.parent / "one_more.py").write_text(PLUGIN.format(folder=str(added)))
    assert CONTRACT[0] == "pytest"
    command = [sys.executable, "-m", *CONTRACT, "-p", "one_more", "-p", "no:cacheprovider"]
    path = os.pathsep.join([str(added.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 15


def test_the_pages_comparison_runs(
    added: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a small model in the demo's place."""
    assert COMPARE[:3] == ["polyrank", "compare", "demo"]
    monkeypatch.setattr(sys, "argv", [*COMPARE[:2], str(recipe), *COMPARE[3:]])
    with pytest.raises(SystemExit) as raised:
        main()
    assert not raised.value.code
    (folder,) = (recipe.parent / "runs/tiny").glob(f"{NAME}*")
    done = records.load(opened(folder).records)
    assert done.complete
    assert done.run["recipe"]["algorithm"] == {"name": NAME, "power": 0.8}
    assert done.done == 2
