"""Sites that train on files of their own; labels that differ are found before round one."""

import json
from pathlib import Path
from typing import Any

import pytest

import polyrank
from polyrank.errors import MessageError
from polyrank.report.records import load as load_records
from tests.conftest import texts
from tests.flower.fake import FakeGrid, Nodes
from tests.flower.test_same_bits import over_flower

OWN = ["algorithm=hetlora", "rounds=2"]


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def own(tmp_path: Path, rows: list[list[dict[str, str]]], **more: object) -> dict[int, Any]:
    return {
        100 + i: {
            "site": f"site-{i}",
            "home": str(tmp_path / f"site-{i}"),
            "data": str(written(tmp_path / f"{i}.jsonl", some)),
            "rank": 2 + i,
            **more,
        }
        for i, some in enumerate(rows)
    }


def test_sites_train_on_their_own_files(recipe: Path, tmp_path: Path) -> None:
    made = polyrank.load_recipe(recipe, OWN)
    rows = texts(60)
    renamed = [{"words": r["text"], "kind": r["label"]} for r in rows[:40]]
    nodes = Nodes(own(tmp_path, [renamed, renamed[:25]], fields="text=words label=kind"))
    over_flower(made, tmp_path / "flower", FakeGrid(nodes), **{"min-nodes": 2})
    records = load_records(tmp_path / "flower/records.jsonl")
    held = [(c["id"], c["rank"], c["examples"], sum(c["labels"])) for c in records.run["clients"]]
    assert held == [("site-0", 2, 40, 40), ("site-1", 3, 25, 25)]
    assert [len(r["clients"]) for r in records.rounds] == [0, 2, 2]
    assert records.complete


def test_labels_that_differ_are_refused_before_round_one(recipe: Path, tmp_path: Path) -> None:
    made = polyrank.load_recipe(recipe, OWN)
    rows = texts(30)
    odd = [*rows, {"text": "the cat", "label": "animal"}]
    nodes = Nodes(own(tmp_path, [rows, odd]))
    line = r"site-1 has labels that the recipe's data has not: \[\"animal\"\]; the classes are "
    with pytest.raises(MessageError, match=line):
        over_flower(made, tmp_path / "flower", FakeGrid(nodes), **{"min-nodes": 2})
    assert not (tmp_path / "flower/records.jsonl").exists()
