"""Doing an experiment: shared out among processes, killed, resumed, and made a page of."""

import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from polyrank.cli.experiments import terminable
from polyrank.errors import DataError, PolyrankError, RecipeError, StorageError
from polyrank.reproduce import data, grid, run
from polyrank.reproduce.experiment import Experiment, Section, Stage
from polyrank.reproduce.grid import Row, Trial


def trials(count: int = 4, overrides: tuple[str, ...] = ()) -> list[Trial]:
    return [Trial("runs", "cell", f"a{i}", i % 2, overrides, "g") for i in range(count)]


def row(one: Trial) -> Row:
    return {"key": one.key, "label": one.label}


def stages(folder: Path, quick: bool) -> list[Stage]:
    return [lambda rows: trials(2), lambda rows: trials(4)]


def section(rows: Sequence[Row]) -> Section:
    return Section(f"## Tiny\n\n{len(rows)} rows\n", {"tiny.svg": "<svg/>"})


def test_a_row_is_added_after_what_a_kill_left(tmp_path: Path) -> None:
    path = tmp_path / "work/part-0.jsonl"
    grid.append(path, row(trials()[0]))
    with path.open("a") as file:
        file.write('{"key": "half')
    assert [r["label"] for r in grid.rows(tmp_path)] == ["a0"]
    grid.append(path, row(trials()[1]))
    assert [r["label"] for r in grid.rows(tmp_path)] == ["a0", "a1"]
    path.write_text("no row\n")
    with pytest.raises(StorageError, match=r"part-0.jsonl:1 is not a row; delete that line"):
        grid.rows(tmp_path)


def test_a_setup_is_not_split_between_processes() -> None:
    many = [Trial("p", "c", f"a{i}", seed, (), g) for g in "xyz" for seed in (0, 1) for i in "12"]
    dealt = list(grid.shares(many, 2))
    assert sorted(t.key for part in dealt for t in part) == sorted(t.key for t in many)
    groups = [{(t.group, t.seed) for t in part} for part in dealt]
    assert not groups[0] & groups[1]


def test_stages_are_done_and_only_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes are played by the fixture; that they are real is tested on the command line."""
    did: list[str] = []

    def play(one_by_one: Sequence[Trial], to: Path) -> None:
        for one in one_by_one:
            did.append(one.label)
            grid.append(to, row(one))

    monkeypatch.setitem(run.EXPERIMENTS, "tiny", Experiment(play, stages, section))
    grid.append(tmp_path / "tiny/work/part-9.jsonl", row(trials()[1]))
    assert grid.todo(trials(2), run.rows_of("tiny", tmp_path)) == [trials()[0]]
    run.work("tiny", tmp_path, tmp_path, (0, 1), False)
    assert did == ["a0"]
    run.work("tiny", tmp_path, tmp_path, (0, 1), False)
    assert did == ["a0", "a2", "a3"]
    assert len(run.reproduce("tiny", tmp_path, workers=1)) == 4
    shutil.rmtree(tmp_path / "tiny/work")
    fewer = Experiment(play, lambda *_: [lambda rows: trials(1)], section)
    monkeypatch.setitem(run.EXPERIMENTS, "tiny", fewer)
    assert len(run.reproduce("tiny", tmp_path, workers=1)) == 4  # a smaller version loses nothing
    assert len(run.reproduce("tiny", tmp_path, workers=1)) == 4  # from its results alone
    page = run.page(tmp_path, tmp_path / "docs")
    assert page.read_text().endswith("## Tiny\n\n4 rows\n")
    assert (tmp_path / "docs/figures/tiny.svg").read_text() == "<svg/>"


def test_a_worker_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.EXPERIMENTS, "tiny", Experiment(lambda *_: None, stages, section))
    with pytest.raises(PolyrankError, match=r"2 of 2 trials of tiny did not finish"):
        run.reproduce("tiny", tmp_path, workers=1)  # a real process, which knows no 'tiny'


def test_an_unknown_experiment_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"no experiment 'byunlee'; did you mean 'byun-lee'"):
        run.known("byunlee")


def test_a_trial_is_a_whole_run(tmp_path: Path, recipe: Path) -> None:
    one = Trial("runs", "cell", "zero-pad", 3, ("algorithm=zero-pad", "rounds=2"))
    grid.run(str(recipe), [one], tmp_path / "work/part-0.jsonl")
    (found,) = grid.rows(tmp_path)
    assert found["key"] == "runs|cell|zero-pad|3|algorithm=zero-pad|rounds=2"
    assert list(found["by_round"]) == ["0", "1", "2"]
    assert found["accuracy"] == found["by_round"]["2"]
    assert found["mb_up"] > 0
    assert [p["rank"] for p in found["probes"]["1"]] == [8]
    json.dumps(found)


def test_a_subset_is_cut_once_and_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "ag_news").symlink_to(corpus)
    made = data.subset("ag_news", tmp_path, 30, 10)
    assert len((made / "train.jsonl").read_text().splitlines()) == 30
    assert len((made / "test.jsonl").read_text().splitlines()) == 10
    before = (made / "train.jsonl").read_bytes()
    assert data.subset("ag_news", tmp_path, 30, 10) == made
    assert (made / "train.jsonl").read_bytes() == before
    assert data.subset("ag_news", tmp_path, 20, 10) != made
    assert data.available(["ag_news", "sst2"], tmp_path) == ["ag_news"]
    with pytest.raises(DataError, match="no data set 'imdb'"):
        data.subset("imdb", tmp_path, 1, 1)


def test_a_schedulers_stop_is_as_good_as_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
