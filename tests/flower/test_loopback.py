"""Three real nodes behind TLS and node authentication: the simulator's bits, over a network."""

from pathlib import Path

import pytest

import polyrank
from polyrank.experiment import single
from polyrank.recipe.load import dump
from tests.flower.loopback import federation
from tests.flower.test_same_bits import bits, traffic


def test_three_nodes_of_mixed_ranks(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """flora: its clients keep what they folded, on their own disks."""
    monkeypatch.setattr(single.page, "write", lambda path, runs: path.write_text("a report"))
    own = ["algorithm=flora", "data.clients=3", "lora.ranks=[1,4,8]", "rounds=2", "engine.group=1"]
    made = polyrank.load_recipe(recipe, own)
    here = polyrank.run(made)
    path, there = tmp_path / "sent.yaml", tmp_path / "over-flower"
    path.write_text(dump(made))
    homes = tmp_path / "homes"
    sites = [
        {"site": f"site-{id}", "home": homes / id, "client": id, "rank": rank}
        for id, rank in (("0", 1), ("1", 4), ("2", 8))
    ]
    with federation(tmp_path, sites) as loopback:
        told = loopback.run(recipe=path, folder=there, **{"min-nodes": 3, "deadline": 120})
    assert "round 2/2" in told
    assert bits(there) == bits(here.folder)
    assert traffic(there) == traffic(here.folder)
    for id in ("0", "1", "2"):
        assert (homes / id).stat().st_mode & 0o777 == 0o700
        assert list((homes / id / "runs").glob("*/rounds.json"))
        # One trainer for all messages: the model was loaded once.
        assert (homes / id / "trainer.log").read_text().count("Traceback") == 0
