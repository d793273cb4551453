"""`polyrank federation`: what it prints, and one line for every mistake."""

import re
from pathlib import Path

import pytest

from polyrank.federation import up

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
