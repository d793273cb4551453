"""Ranks by the recipe's policy, for sites that state their memory and their data instead."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

import polyrank
from polyrank.errors import MessageError, PolyrankError, RecipeError
from polyrank.experiment import single
from polyrank.experiment.setup import Setup, prepare, step, unit
from polyrank.flower.node import Node
from polyrank.flower.ranking import Ranking
from polyrank.flower.stated import Stated
from polyrank.ranks import by_budget
from polyrank.recipe.policies import Budget
from polyrank.report.records import load as load_records
from tests.conftest import texts
from tests.flower.fake import FakeGrid, Nodes
from tests.flower.test_own_data import own
from tests.flower.test_same_bits import over_flower

MIB = 2**20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single.page, "write", lambda path, runs: path.write_text("a report"))


@pytest.fixture(scope="module")
def setup_of() -> Callable[[polyrank.Recipe], Setup]:
    made: dict[str, Setup] = {}

    def setup(recipe: polyrank.Recipe) -> Setup:
        return made.setdefault(str(recipe.local.batch), prepare(recipe))

    return setup


def made(recipe: Path, ranks: str, *more: str) -> polyrank.Recipe:
    overrides = ["algorithm=flexlora", "rounds=2", f"lora.ranks={ranks}", *more]
    return polyrank.load_recipe(recipe, overrides)


def site(name: str, examples: int, memory: int = 0, rank: int | None = None, **more: Any) -> Stated:
    fields = {"own": True, "counts": (examples,), "measured": False, **more}
    return Stated(1, name, name, rank, examples=examples, memory=memory, **fields)


def unranked(tmp_path: Path, sizes: list[int], **more: object) -> dict[int, Any]:
    configs = own(tmp_path, [texts(n) for n in sizes], rank="auto", **more)
    del configs[100]["rank"]  # to leave it out says the same
    return configs


def ranks(folder: Path) -> list[dict[str, int]]:
    rounds = load_records(folder / "records.jsonl").rounds[1:]
    return [{c["id"]: c["rank"] for c in r["clients"]} for r in rounds]


def test_a_budget_is_spent_by_what_sites_state_of_their_data(recipe: Path, tmp_path: Path) -> None:
    one = made(recipe, "{policy: budget, mb: 0.01}")
    nodes = Nodes(unranked(tmp_path, [60, 20]))
    over_flower(one, tmp_path / "flower", FakeGrid(nodes), **{"min-nodes": 2})
    setup = prepare(one)
    high, low = by_budget(one.lora.ranks, [60, 20], *unit(one, setup))
    expected = {"site-0": high, "site-1": low}
    assert ranks(tmp_path / "flower") == [expected] * 2
    assert high > low


def test_memory_is_each_sites_own_and_one_that_joins_late_is_answered_too(
    recipe: Path, tmp_path: Path
) -> None:
    one = made(recipe, "{policy: memory, gib: 1}", "local.batch=512", "data.max_length=32")
    needs = step(one, prepare(one))
    sizes = {100: needs.peak(2) // MIB + 1, 101: needs.peak(9) // MIB + 1, 102: 10**6}
    configs = unranked(tmp_path, [30, 30, 30])
    for id, memory in sizes.items():
        configs[id]["memory"] = memory
    late = configs.pop(102)
    nodes = Nodes(configs)

    def joins(sent: Message, answer: Message) -> list[Message]:
        if sent.metadata.message_type == "train" and 102 not in nodes.configs:
            nodes.configs[102], nodes.held[102] = late, Node()
        return [answer]

    over_flower(one, tmp_path / "flower", FakeGrid(nodes, joins), **{"min-nodes": 2})
    first, second = ranks(tmp_path / "flower")
    for id, rank in first.items():
        memory = sizes[100 + int(id[-1])] * MIB
        assert needs.peak(rank) <= memory < needs.peak(rank + 1)
    assert second == {**first, "site-2": max(first.values())}  # no larger than when it began
    assert first["site-0"] < first["site-1"]


def test_a_site_without_memory_enough_is_refused_before_round_one(
    recipe: Path, tmp_path: Path
) -> None:
    one = made(recipe, "{policy: memory, gib: 1}", "local.batch=512", "data.max_length=32")
    nodes = Nodes(unranked(tmp_path, [30, 30], memory=1))
    line = r"site-0: 0.000976562 GiB is too little for rank 1; the smallest that works is"
    with pytest.raises(MessageError, match=line):
        over_flower(one, tmp_path / "flower", FakeGrid(nodes), **{"min-nodes": 2})
    assert not (tmp_path / "flower/records.jsonl").exists()


def test_without_memory_in_its_config_a_site_states_what_is_free(
    recipe: Path, tmp_path: Path
) -> None:
    one = made(recipe, "{policy: memory, gib: 1, most: 6}")
    over_flower(one, tmp_path / "flower", FakeGrid(Nodes(unranked(tmp_path, [30, 30]))),
                **{"min-nodes": 2})  # fmt: skip
    assert ranks(tmp_path / "flower") == [{"site-0": 6, "site-1": 6}] * 2


def test_what_sites_state_themselves_stays(
    recipe: Path, setup_of: Callable[[polyrank.Recipe], Setup]
) -> None:
    sites = [site("a", 10, rank=3), site("b", 10), site("c", 30)]
    for text, expected in {"5": {"b": 5, "c": 5}, "{2: 100%}": {"b": 2, "c": 2}}.items():
        one = made(recipe, text)
        assert Ranking(one, setup_of(one)).first(sites) == expected
    one = made(recipe, "{policy: budget, mb: 0.02}")
    numbers, most, each = unit(one, setup_of(one))
    found = Ranking(one, setup_of(one)).first(sites)
    left = Budget(policy="budget", mb=0.02 - 3 * numbers * each / 1e6)
    assert list(found.values()) == by_budget(left, [10, 30], numbers, most, each)
    assert Ranking(one, setup_of(one)).first([sites[0]]) == {}


@pytest.mark.parametrize(
    ("ranks", "rank", "error", "line"),
    [
        ("{policy: budget, mb: 0.01}", 16, RecipeError, "0.01 MB is too little for ranks of 16 in"),
        ("[1, 2, 4, 8]", 2, RecipeError, "lora.ranks"),
        ("{policy: memory, gib: 1}", 2, MessageError, "b states neither rank nor memory"),
    ],
)
def test_a_policy_without_an_answer_says_so(
    ranks: str, rank: int, error: type[PolyrankError], line: str, recipe: Path,
    setup_of: Callable[[polyrank.Recipe], Setup],
) -> None:  # fmt: skip
    one = made(recipe, ranks)
    with pytest.raises(error) as caught:
        Ranking(one, setup_of(one)).first([site("a", 10, rank=rank), site("b", 10)])
    assert line in str(caught.value)


def test_who_comes_back_keeps_its_rank_unless_its_operator_gives_other_memory(
    recipe: Path, setup_of: Callable[[polyrank.Recipe], Setup]
) -> None:
    def later(text: str, one: Stated, since: dict[str, int] | None = None) -> int | None:
        asked = made(recipe, text)
        return Ranking(asked, setup_of(asked)).later(one, {"a": 4, "b": 2}, since or {}, 8)

    assert later("5", site("a", 10)) is None
    assert later("5", site("c", 10)) == 5
    assert later("5", site("c", 10), {"c": 3}) == 3
    assert later("16", site("c", 10)) == 8
    assert later("{policy: quality, low: 2, high: 6}", site("c", 10)) == 2
    memory = "{policy: memory, gib: 1}"
    assert later(memory, site("a", 10, 10**6)) == 8
    assert later(memory, site("a", 10, 10**6, measured=True)) is None
    assert later(memory, site("a", 10, 10**6, own=False, measured=True)) is None
    with pytest.raises(MessageError, match=r"c: lora.ranks lists no rank for it; give rank="):
        later("[1, 2, 4, 8]", site("c", 10))
    with pytest.raises(MessageError, match=r"c: 0.01 MB is too little .* give rank="):
        later("{policy: budget, mb: 0.01}", site("c", 10), {"b": 16})
