"""The command line: what it prints, what it writes, and one line for every mistake."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from polyrank.algorithms import about, names, summary
from polyrank.version import __version__
from tests.cli.calling import Command, command


@pytest.fixture
def polyrank(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys, 200)


def test_version_is_quick_and_needs_no_model(polyrank: Command) -> None:
    code = "import sys; import polyrank.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert polyrank("--version") == (0, f"polyrank {__version__}\n", "")


def test_run_prints_a_line_per_round_and_where_things_are(recipe: Path, polyrank: Command) -> None:
    code, out, _ = polyrank("run", recipe, "algorithm=fedhl")
    assert code == 0
    lines = [line for line in out.splitlines() if line.strip().startswith("round")]
    assert len(lines) == 3
    for word in ("loss", "accuracy", "up", "down", "MB", " s", "N_eff"):
        assert word in lines[0]
    folder = recipe.parent / "runs/tiny"
    assert f"report:  {folder / 'report.html'}" in out
    expected = {"recipe.yaml", "records.jsonl", "checkpoint.safetensors", "adapter", "report.html"}
    assert expected <= {p.name for p in folder.iterdir()}


def test_plan_has_a_line_per_rank_and_writes_nothing(recipe: Path, polyrank: Command) -> None:
    code, out, _ = polyrank("plan", recipe)
    assert code == 0
    ranks = [line.split()[0] for line in out.splitlines() if line[:4].strip().isdigit()]
    assert ranks == ["1", "2", "4", "8"]
    for word in ("GiB", "s a round", "MB up", "MB down"):
        assert word in out
    assert not (recipe.parent / "runs").exists()


def test_compare_prints_a_table_and_writes_one_report(recipe: Path, polyrank: Command) -> None:
    chosen = ("--algorithms", "zero-pad,flora", "--seeds", "2")
    _, out, _ = polyrank("compare", recipe, *chosen, "rounds=1")
    assert "zero-pad" in out
    assert "±" in out
    folder = recipe.parent / "runs/tiny"
    page = (folder / "report.html").read_text()
    assert "zero-pad" in page
    assert len(list(folder.glob("*/adapter"))) == 4
    target = recipe.parent / "r.html"
    polyrank("report", folder / "flora-seed0", folder / "zero-pad-seed1", "--out", target)
    assert "zero-pad" in target.read_text()
    assert polyrank("resume", folder)[0] == 0


def test_resume_finishes_what_a_run_left(recipe: Path, polyrank: Command) -> None:
    polyrank("run", recipe)
    _, out, _ = polyrank("resume", recipe.parent / "runs/tiny")
    assert "accuracy" in out


def test_algorithms_are_listed_in_a_hundred_columns(polyrank: Command) -> None:
    _, out, _ = polyrank("algorithms")
    for word in ("replicate", "2406.17477", "fedhl", "2505.18494", "S(m+n)", "equal", "mixed"):
        assert word in out
    for name in names():
        (line,) = [line for line in out.splitlines() if line.startswith(f"{name} ")]
        assert ("mixed" in line, "exact" in line) == (about(name).mixed, about(name).exact)
        assert about(name).weights in line
        for word in (summary(name), about(name).up, about(name).down, about(name).server):
            assert word in out
    assert max(map(len, out.splitlines())) <= 100
    assert "MB" not in out


def test_algorithms_for_a_recipe_say_what_its_clients_send(recipe: Path, polyrank: Command) -> None:
    code, out, _ = polyrank("algorithms", recipe)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    lines = {line.split()[0]: line for line in out.splitlines() if line and line[0] != " "}
    assert re.fullmatch(r"zero-pad .* [\d.]+–[\d.]+ +[\d.]+–[\d.]+", lines["zero-pad"])
    assert lines["fedit"].endswith("needs equal ranks")
    _, out, _ = polyrank("algorithms", recipe, "lora.ranks=2")
    assert "needs equal ranks" not in out
    assert re.search(r"^fedit .* [\d.]+ +[\d.]+$", out, re.MULTILINE)


def test_a_recipe_that_algorithms_cannot_measure_is_one_line(
    recipe: Path, polyrank: Command
) -> None:
    code, out, err = polyrank("algorithms", recipe, "lora.targets=[c_atn]")
    assert (code, out) == (2, "")
    assert "command line: lora.targets: no layer is called 'c_atn'" in err


def test_recipe_prints_every_default_and_the_schema(polyrank: Command) -> None:
    assert "rounds: " in polyrank("recipe", "demo")[1]
    schema = json.loads(polyrank("recipe", "--schema")[1])
    assert schema["properties"]["rounds"]["type"] == "integer"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lora.rank=4"], "command line: lora.rank: unknown key; did you mean 'ranks'?"),
        (["algorithm=zeropad"], "no algorithm 'zeropad'; did you mean 'zero-pad'?"),
        (["algorithm=fedit"], "command line: algorithm.name: fedit needs equal ranks"),
        (["lora.ranks=[1,2,4,99]"], "command line: lora.ranks: rank 99 is too large"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(
    arguments: list[str], line: str, recipe: Path, polyrank: Command
) -> None:
    code, out, err = polyrank("run", recipe, *arguments)
    assert (code, out) == (2, "")
    assert line in err
    assert err.count("\n") == 1


def test_a_mistake_found_late_still_names_file_and_line(recipe: Path, polyrank: Command) -> None:
    recipe.write_text(recipe.read_text().replace("- c_attn", "- c_atn"))
    at = next(i for i, x in enumerate(recipe.read_text().splitlines(), start=1) if "targets:" in x)
    code, _, err = polyrank("run", recipe)
    assert code == 2
    assert f"{recipe}:{at}: lora.targets: no layer is called 'c_atn'" in err


def test_a_mistake_in_algorithms_is_on_the_command_line(recipe: Path, polyrank: Command) -> None:
    code, out, err = polyrank("compare", recipe, "--algorithms", "flora,fdhl")
    assert (code, out) == (2, "")
    assert err.startswith("polyrank: command line: algorithm.name: no algorithm 'fdhl'; did you")
    assert not (recipe.parent / "runs").exists()


def test_an_experiment_that_does_not_exist_is_one_line(polyrank: Command, tmp_path: Path) -> None:
    code, _, err = polyrank("reproduce", "fedlh", f"--out={tmp_path}", f"--docs={tmp_path}")
    assert code == 2
    assert err == "polyrank: reproduce: no experiment 'fedlh'; did you mean 'fedhl'?\n"


def test_the_page_of_results_is_made_of_what_there_is(polyrank: Command, tmp_path: Path) -> None:
    code, out, _ = polyrank("reproduce", f"--out={tmp_path}", f"--docs={tmp_path}/docs")
    assert code == 0
    assert out == f"results: {tmp_path}/docs/results.md\n"
    assert (tmp_path / "docs/results.md").read_text().startswith("# Results\n")
