"""The commands for finished adapters: what they print and write, and one line for every mistake."""

from pathlib import Path

import pytest

from tests.adapters.folders import SHAPES, as_peft_loads, write
from tests.cli.calling import Command, command

Q0, V0, *_ = SHAPES


@pytest.fixture
def polyrank(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys, 60)


def test_aggregate_export_inspect_and_diff(polyrank: Command, tmp_path: Path) -> None:
    one = write(tmp_path / "a", {Q0: 2, V0: 2}, seed=1, examples=30).path
    two = write(tmp_path / "b", {Q0: 4}, seed=2, examples=10).path
    out = tmp_path / "ours"
    code, told, _ = polyrank(
        "aggregate", one, two, "--algorithm", "florist", "--option", "tau=1", "--out", out
    )
    assert code == 0
    assert f"{one}: rank 2, weight 0.75\n{two}: rank 4, weight 0.25\n" in told
    assert "1 of 2 layers are in 1 of 2 adapters" in told
    assert f"florist: 2 layers of rank 2, 6 in {out}" in told
    code, told, _ = polyrank("export", out, "--rank", "3", "--out", tmp_path / "small")
    assert code == 0
    assert told.startswith("rank 3 keeps ")
    assert f"adapter: 2 layers of rank 2–3 in {tmp_path / 'small'}" in told
    assert as_peft_loads(tmp_path / "small")[0].keys() == {Q0, V0}
    code, told, _ = polyrank("inspect", out, "--plot", tmp_path / "p.html")
    assert code == 0
    for words in (Q0, "‖ΔW‖", "effective rank", "energy lost", f"picture: {tmp_path / 'p.html'}"):
        assert words in told  # whole, though the terminal is narrow: this is a pipe
    code, told, _ = polyrank("diff", one, two, "--plot", tmp_path / "p.svg")
    assert code == 0
    for words in (f"A = {one}, B = {two}", "cosine", "inputs °", f"only {one} adapts {V0}"):
        assert words in told
    assert (tmp_path / "p.svg").exists()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("aggregate A --out O", "A: polyrank.json does not say how many examples it was trained"),
        ("aggregate A --weights 1,2 --out O", "--weights '1,2': 2 numbers for 1 adapters"),
        ("aggregate A --algorithm fedhl --weights uniform --out O", "fedhl needs rounds: it adds"),
        ("aggregate N --weights uniform --out O", "N/adapter_config.json cannot be read: there is"),
        ("export A --out O", "say what to export: --rank 16, --energy 0.95, --full or --merge"),
        ("export A --rank 9 --out O", f"rank 9 is too large for layer '{V0}' of shape (6, 10)"),
        ("inspect A --plot p.png", "--plot p.png: end its name in .svg or .html"),
        ("diff A N", "N/adapter_config.json cannot be read: there is no such file; a PEFT adapter"),
    ],
)
def test_a_mistake_is_one_line(
    command: str, line: str, polyrank: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("A"), {V0: 2})
    code, out, err = polyrank(*command.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"polyrank: {line}")
    assert err.count("\n") == 1
    assert not Path("O").exists()
