"""The process of a message, and the trainer behind it: real processes, without a network."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import polyrank
from polyrank.errors import StorageError
from polyrank.flower import link
from polyrank.flower.ledger import Ledger, forget
from polyrank.flower.site import Site, SiteError, read, site, told
from polyrank.recipe.load import dump
from polyrank.version import __version__
from tests.conftest import CLASSES

HEAVY = ("torch", "transformers", "pydantic", "peft", "safetensors", "scipy", "yaml")


def test_the_process_of_a_message_imports_flower_alone() -> None:
    code = (
        f"import sys, polyrank.flower.client_app; print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def node() -> Iterator[subprocess.Popen[bytes]]:
    """What stands for the SuperNode: its end is the trainer's."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def home(tmp_path: Path, node: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "getppid", lambda: node.pid)
    return tmp_path / ("a-long-name-" * 12) / "site-0"


def asked(home: Path, recipe: Path) -> dict[str, Any]:
    facts = {
        "recipe": dump(polyrank.load_recipe(recipe)),
        "classes": json.dumps(CLASSES),
        "version": __version__,
    }
    return {
        "kind": "query",
        "site": told(Site("site-0", home, client="2", memory=1000)),
        "facts": facts,
    }


def trainers(home: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            state = (path.parent / "stat").read_bytes().rpartition(b")")[2].split()[0]
        except OSError:
            continue
        if b"polyrank.flower.trainer" in words and str(home).encode() in words and state != b"Z":
            found.append(int(path.parent.name))
    return found


def test_one_trainer_answers_all_is_replaced_when_killed_and_ends_with_its_node(
    home: Path, recipe: Path, node: subprocess.Popen[bytes]
) -> None:
    first, _ = link.ask(home, asked(home, recipe), b"")
    assert (first["client"], first["rank"]) == ("2", 0)
    assert first["examples"] == sum(json.loads(first["counts"]))
    (one,) = trainers(home)
    assert link.ask(home, asked(home, recipe), b"")[0] == first
    assert trainers(home) == [one]
    assert home.stat().st_mode & 0o777 == 0o700
    os.kill(one, signal.SIGKILL)
    assert link.ask(home, asked(home, recipe), b"")[0] == first
    (two,) = trainers(home)
    assert two != one
    node.kill()
    end = time.monotonic() + 20
    while trainers(home) and time.monotonic() < end:
        time.sleep(0.1)
    assert not trainers(home)


def test_what_a_client_keeps_is_found_by_round(tmp_path: Path) -> None:
    ledger, states = Ledger(tmp_path), [{"x": torch.full((2,), float(i))} for i in range(4)]
    assert ledger.at(0) == ({}, {})
    ledger.add(1, 0, states[1], {})
    ledger.add(2, 1, states[2], states[3])
    ledger.add(3, 1, states[3], {})  # round 2 did not count
    again = Ledger(tmp_path)
    assert torch.equal(again.at(1)[0]["x"], states[1]["x"])
    assert torch.equal(again.at(2)[1]["x"], states[3]["x"])
    again.add(4, 3, {}, {})
    assert again.at(1) == again.at(2) == ({}, {})
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_runs_that_are_over_are_forgotten_and_nothing_else_is_touched(tmp_path: Path) -> None:
    names = [f"{i:064x}" for i in range(5)]
    for age, name in enumerate(names):
        Ledger(tmp_path / name).add(1, 0, {"x": torch.ones(1)}, {})
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    (tmp_path / names[4] / "notes.txt").write_text("somebody's")
    for other in ("f" * 63, "else"):
        Ledger(tmp_path / other).add(1, 0, {}, {})
    outside = tmp_path.parent / "outside"
    Ledger(outside).add(1, 0, {"x": torch.ones(1)}, {})
    (tmp_path / ("a" * 64)).symlink_to(outside)
    (tmp_path / ("b" * 64)).write_text("no folder")
    before = {p.name for p in tmp_path.iterdir()}
    assert forget(tmp_path, 2) == names[2:4]
    assert {p.name for p in tmp_path.iterdir()} == before - set(names[2:4])
    assert Ledger(tmp_path / names[0]).at(1)[0]
    assert Ledger(tmp_path / names[2]).at(1) == ({}, {})
    assert Ledger(outside).at(1)[0]
    assert forget(tmp_path, 2) == forget(tmp_path / "none", 0) == []


def test_a_folder_that_cannot_be_removed_is_left_without_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Ledger(tmp_path / ("0" * 64))
    one.add(1, 0, {"x": torch.ones(1)}, {})

    def full(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", full)
    with pytest.raises(StorageError, match=r"cannot remove .*: Permission denied"):
        forget(tmp_path, 0)
    assert one.at(1) == ({}, {})


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({}, "site is ''; give a name"),
        ({"site": "a", "clent": "0"}, "unknown key 'clent'; valid: client, data"),
        ({"site": "a"}, "give one of client and data"),
        ({"site": "a", "client": "0", "data": "/x.csv"}, "give one of client and data"),
        ({"site": "a", "client": "0", "rank": 0}, "rank is 0; give a whole number from 1"),
        ({"site": "a", "client": "0", "rank": "x"}, "give a whole number from 1, or 'auto'"),
        ({"site": "a", "client": "0", "memory": 1.5}, "memory is 1.5; give a whole number from 1"),
        ({"site": "a", "client": "0", "keep": -1}, "keep is -1; give a whole number from 0"),
        ({"site": "a", "client": "0", "home": "here"}, "home is 'here'; give an absolute path"),
        ({"site": "a", "data": "x.csv"}, "data is 'x.csv'; give an absolute path"),
        ({"site": "a", "data": "/x.csv", "fields": "words"}, "give columns as"),
        ({"site": "../a", "client": "0"}, "site is '../a'"),
    ],
)
def test_a_node_config_that_cannot_be_is_one_line(config: dict[str, Any], line: str) -> None:
    with pytest.raises(SiteError) as caught:
        site(config)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_site_comes_through_json_as_it_is() -> None:
    for config in (
        {"site": "a", "client": "07", "rank": 4},
        {"site": "b", "data": "/b.csv", "fields": "text=words", "home": "/b"},
        {"site": "c", "data": "/c.csv", "rank": "auto", "memory": 900, "keep": 0},
        {"partition-id": 3, "num-partitions": 10},
    ):
        one = site(config)
        assert read(json.loads(json.dumps(told(one)))) == one
