"""`polyrank federation`: what it prints, and one line for every mistake."""

import re
from pathlib import Path

import pytest

from polyrank.experiment.folder import create
from polyrank.federation import up
from polyrank.flower import status
from polyrank.recipe import load

from .test_commands import Command, polyrank

__all__ = ["polyrank"]


def test_init_writes_and_says_where_to_go_on(tmp_path: Path, polyrank: Command) -> None:
    folder = tmp_path / "fed"
    code, out, err = polyrank(
        "federation", "init", folder, "rounds=7", "--sites", 2, "--host", "fed.example.org",
        "--host", "10.0.0.5", "--port", 9000,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out == f"written: {folder}; go on with {folder}/README.md\n"
    assert "rounds: 7" in (folder / "superlink/recipe.yaml").read_text()
    assert "fed.example.org:9000" in (folder / "sites/site-2/start.sh").read_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["init", "DIR/full"], r"full is there and not empty; name a new folder"),
        (["init", "DIR/new", "--host", "http://x"], r"--host 'http://x' is no host name"),
        (["init", "DIR/new", "--sites", 11], r"demo\.yaml:\d+: data\.clients: 10, but 11 sites"),
        (["init", "DIR/new", "round=3"], r"command line: round: .*rounds"),
        (["init", "DIR/new", "--recipe", "dmo"], r"dmo: no such recipe; did you mean 'demo'"),
        (["up", "DIR/full"], r"full is there and not empty; name a new folder"),
        (["up", "DIR/a", "DIR/b"], r"b is a second folder; name one"),
        (["up", "DIR/new", "rounds=0"], r"command line: rounds: "),
        (["status", "DIR/none"], r"none does not exist; give the run folder"),
        (["status", "DIR/full", "--once"], r"full has no run yet; give the run folder"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, polyrank: Command, words: list[object], line: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/precious").touch()
    given = [str(word).replace("DIR", str(tmp_path)) for word in words]
    code, out, err = polyrank("federation", *given)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(line, err), err
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_without_flower_it_says_how_to_get_it(
    tmp_path: Path, polyrank: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "find_spec", lambda name: None)
    for words in (["init", tmp_path / "new"], ["up", tmp_path / "new"]):
        code, _, err = polyrank("federation", *words)
        assert code == 2
        assert "pip install 'polyrank[flower]'" in err


@pytest.fixture
def broken_off(recipe: Path, tmp_path: Path) -> Path:
    """The folder of a run whose clients are nodes."""
    run = tmp_path / "superlink/run"
    create(run, load.load(recipe).recipe)
    status.write(run, {}, round=1, rounds=3, started=0.0, state=status.RUNNING)
    return run


def test_nodes_are_not_simulated_when_their_run_is_resumed(
    broken_off: Path, polyrank: Command
) -> None:
    code, out, err = polyrank("resume", broken_off)
    assert (code, out) == (2, "")
    assert err == (
        f"polyrank: the clients of {broken_off} are nodes of a federation; go on with it by the "
        "command that began it (./run.sh, or flwr run)\n"
    )


@pytest.mark.parametrize("complete", [False, True])
def test_resume_goes_on_by_the_federation_s_own_script(
    complete: bool, broken_off: Path, recipe: Path, polyrank: Command
) -> None:
    done = recipe.parent / "runs/tiny"
    if complete:
        polyrank("run", recipe)
    script = broken_off.parent / "run.sh"
    script.write_text(f'#!/bin/sh\nset -e\ntest -n "$POLYRANK_BIN"\ncp -r {done}/* {broken_off}\n')
    script.chmod(0o755)
    code, out, err = polyrank("resume", broken_off)
    if complete:
        assert (code, err) == (0, "")
        assert out.endswith(f"report: {broken_off}/report.html\n")
    else:
        assert code == 2
        assert err == (
            f"polyrank: {broken_off} has not come to its end; {script} said why. "
            "Finished rounds are safe\n"
        )
