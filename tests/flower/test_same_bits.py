"""A recipe on Flower ends as in the simulator: the same bits and the same bytes, both ways."""

from pathlib import Path
from typing import Any

import pytest

import polyrank
from polyrank.algorithms import about, names
from polyrank.experiment import single
from polyrank.flower.server_app import main
from polyrank.recipe.load import dump
from polyrank.report.records import load as load_records
from tests.flower.fake import FakeGrid, Nodes, configs, context

IDS = ["0", "1", "2", "3"]
FILES = ("adapter_config.json", "adapter_model.safetensors")


def bits(folder: Path) -> list[bytes]:
    return [(folder / "adapter" / name).read_bytes() for name in FILES]


def traffic(folder: Path) -> list[dict[str, Any]]:
    """By round and client, the bytes of its upload and its download."""
    rounds = load_records(folder / "records.jsonl").rounds
    return [{c["id"]: (c["up"], c["down"]) for c in r["clients"]} for r in rounds]


def over_flower(recipe: polyrank.Recipe, folder: Path, grid: FakeGrid, **config: object) -> None:
    main(grid, context({"recipe": dump(recipe), "folder": str(folder), "min-nodes": 4, **config}))


@pytest.mark.parametrize("name", names())
def test_every_algorithm(
    name: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name not in ("replicate", "fedsa-lora"):  # reports take longer than these runs
        monkeypatch.setattr(single.page, "write", lambda path, runs: path.write_text("a report"))
    own = [f"algorithm={name}", "rounds=2", "engine.group=1"]
    own += [] if about(name).mixed else ["lora.ranks=4"]
    made = polyrank.load_recipe(recipe, own)
    here = polyrank.run(made)
    there = tmp_path / "flower"
    over_flower(made, there, FakeGrid(Nodes(configs(tmp_path, IDS))))
    assert bits(there) == bits(here.folder)
    assert traffic(there) == traffic(here.folder)
    assert (there / "report.html").exists()
