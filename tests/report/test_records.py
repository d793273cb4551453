import json
import math
import os

import pytest

from polyrank.errors import StorageError
from polyrank.report.records import FILE, RunRecords, append, load, read, rewind
from tests.report.synthetic import run_records


def written(folder, run):
    path = folder / FILE
    for record in (run.run, *run.rounds, *([run.final] if run.final else [])):
        append(path, record)
    return path


def test_what_is_appended_is_read_back_line_by_line(tmp_path):
    run = run_records()
    path = written(tmp_path, run)
    assert path.read_bytes().count(b"\n") == 1 + 4 + 1
    assert read(path) == [run.run, *run.rounds, run.final]
    assert load(tmp_path) == load(path) == run


def test_a_kill_at_any_byte_leaves_the_records_before_it(tmp_path):
    path = written(tmp_path, run_records(clients=1, rounds=1))
    whole, records = path.read_bytes(), read(path)
    for cut in range(0, len(whole), 17):
        path.write_bytes(whole[:cut])
        assert read(path) == records[: whole[:cut].count(b"\n")]


def test_appending_after_a_kill_replaces_the_broken_line(tmp_path):
    run = run_records(rounds=1)
    path = written(tmp_path, run)
    path.write_bytes(path.read_bytes()[:-10])
    append(path, run.final)
    assert read(path) == [run.run, *run.rounds, run.final]


def test_a_corrupt_line_is_named_by_file_and_line(tmp_path):
    path = written(tmp_path, run_records())
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][:-5]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(StorageError, match=rf"{FILE}:2 is not a run record"):
        read(path)


def test_a_record_without_a_key_is_refused_when_read_and_when_written(tmp_path):
    run = run_records()
    broken = {key: value for key, value in run.rounds[1].items() if key != "clients"}
    path = tmp_path / FILE
    append(path, run.run)
    with pytest.raises(StorageError, match=r"clients: Field required"):
        append(path, broken)
    assert read(path) == [run.run]
    path.write_text(path.read_text() + json.dumps(broken) + "\n")
    with pytest.raises(StorageError, match=rf"{FILE}:2 .*clients: Field required"):
        read(path)


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(StorageError, match="kind"):
        append(tmp_path / FILE, {"kind": "epoch"})
    assert not (tmp_path / FILE).exists()


def test_keys_of_a_later_version_are_kept(tmp_path):
    run = run_records()
    append(tmp_path / FILE, {**run.run, "from_the_future": [1]})
    assert read(tmp_path / FILE)[0]["from_the_future"] == [1]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    run = run_records()
    diverged = {**run.rounds[1], "test": {"loss": math.nan, "accuracy": 0.1}}
    diverged["info"] = {"drift": math.inf, "by": {"0": (1.0, -math.inf)}}
    append(tmp_path / FILE, diverged)
    found = read(tmp_path / FILE)[0]
    assert found["test"] == {"loss": None, "accuracy": 0.1}
    assert found["info"] == {"drift": None, "by": {"0": [1.0, None]}}


def test_rewind_keeps_the_run_and_the_rounds_so_far_and_drops_the_end(tmp_path):
    run = run_records(rounds=4)
    path = written(tmp_path, run)
    rewind(path, 2)
    assert read(path) == [run.run, *run.rounds[:3]]
    append(path, run.rounds[3])
    assert load(path).done == 3


def test_a_rewind_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = written(tmp_path, run_records())
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        rewind(path, 1)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_a_missing_or_headless_file_is_one_clear_line(tmp_path):
    with pytest.raises(StorageError, match=r"nowhere.* cannot be read"):
        load(tmp_path / "nowhere")
    (tmp_path / FILE).write_bytes(b"")
    with pytest.raises(StorageError, match="does not begin with a run record"):
        load(tmp_path)


def test_traffic_is_cumulative_and_in_millions_of_bytes():
    run = run_records(clients=2, rounds=3)  # ranks 2 and 4: 3000 bytes of factors a rank
    each_round = (3000 * (2 + 4) + 2 * (15400 + 900)) / 1e6
    assert run.up == pytest.approx([0, each_round, 2 * each_round, 3 * each_round])
    assert run.down == pytest.approx(run.up)


def test_an_unfinished_run_shows_its_last_measurement():
    run = run_records(rounds=3, finished=False)
    unmeasured = RunRecords(run.run, (*run.rounds[:3], {**run.rounds[3], "test": None}))
    assert not unmeasured.complete
    assert unmeasured.done == 3
    assert unmeasured.accuracy == run.rounds[2]["test"]["accuracy"]
    assert unmeasured.seconds == pytest.approx(4 * 1.5)


def test_a_run_that_has_not_begun_has_no_figures():
    run = RunRecords(run_records().run)
    assert (run.value, run.first_value, run.done, run.up) == (None, None, 0, ())


def test_traffic_counts_clients_that_were_left_out():
    run = run_records(clients=1, rounds=1)
    out = {"id": "9", "reason": "NaN", "up": {"total": 2e6, "factors": 0, "dense": 0}}
    out["down"] = {"total": 10**6, "factors": 10**6, "dense": 0}
    last = {**run.rounds[1], "left_out": [out]}
    more = RunRecords(run.run, (run.rounds[0], last), run.final)
    assert more.up[-1] - run.up[-1] == pytest.approx(2)
    assert more.down[-1] - run.down[-1] == pytest.approx(1)
