"""Over a network: what a round costs beside training, next to what a round of Flower costs.

One SuperLink and three SuperNodes on loopback, with TLS and node authentication, run every app.
"""

import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from bench.federation import WORDS
from bench.loopback import Running, Told, federation
from bench.machine import ROOT
from bench.section import Limits, Row, Section
from polyrank.federation import init
from polyrank.flower.post import POLL
from polyrank.recipe import Recipe
from polyrank.recipe.load import dump

FLOOR = ROOT / "bench/peers/flower_floor"
SITES = 3
LARGE = 100  # times the small rank
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NOTES = [
    f"{SITES} nodes and the SuperLink on this machine, as `polyrank federation init` sets them up "
    "(TLS, a key for each node); the same processes run every app. Seconds are those from the end "
    "of a round to the end of the next, on average; the first round is left out, and of ours the "
    "last too, after which it evaluates.",
    "The floor is an app that sends every node one array and gets one back, as Flower's "
    "documentation has it, and computes nothing (bench/peers/flower_floor). It runs first, on "
    "nodes as Flower has them, but for the quarter of a second between two looks for a message "
    "(start.sh): a message's process does its imports, and `send_and_receive` looks for answers "
    "every three seconds. `our way` is the same app looking every half second, where our client "
    "has been: a message's process is forked from one with its imports done "
    "(src/polyrank/flower/warm.py).",
    "Ours is a whole round: sampling, packing, sending, one local step, checking, aggregating, the "
    "spectrum of the update, record and checkpoint. Nothing is taken off; `node s` is what the "
    "slowest node says that its part took. All nodes share this machine's cores, so that on "
    "machines of their own rounds are shorter.",
    "Server MB is the most resident memory of the ServerApp's process by the end of the first "
    "round, and by the end of the last. One node a round, beside three, says whether it grows with "
    "uploads: an answer after the first is taken while the sum of those before it is there, which "
    "is all that more nodes add.",
]


class Case(NamedTuple):
    """An app on the federation.

    Args:
        name: in the table.
        rank: of ours, of every node; None for the floor.
        rounds: how many.
        bytes: of the floor's array.
        pull: seconds between two looks of the floor for answers; 0 is Flower's own.
        nodes: that take part in a round.
    """

    name: str
    rank: int | None
    rounds: int
    bytes: int = 1000
    pull: float = 0.0
    nodes: int = SITES


class Shape(NamedTuple):
    """A Llama of two layers; each rank of its factors takes 8·(8·hidden + 3·(hidden + wide)) B."""

    hidden: int
    wide: int
    rank: int  # the small one: 1 MB

    def factors(self, rank: int) -> int:
        """Bytes of its factors."""
        return 8 * rank * (8 * self.hidden + 3 * (self.hidden + self.wide))


SHAPE, TINY = Shape(1024, 4576, 5), Shape(16, 32, 1)


def run(quick: bool, limits: Limits) -> Section:
    """Floor and ours at 1 MB; at 100 MB too unless quick."""
    shape = TINY if limits.tiny else SHAPE
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write(folder, shape)
        sites = 1 if limits.tiny else SITES
        first = _recipe(folder, Case("", shape.rank, 1, nodes=sites), sites)
        with federation(folder / "federation", sites, first) as running:
            for case in _cases(shape, quick, limits.tiny):
                rows.append(_measured(running, folder, case, sites))
                limits.tell(rows[-1])
    return Section("Over a network", rows, _ratios(rows), NOTES, _spread(rows))


def _cases(shape: Shape, quick: bool, tiny: bool) -> list[Case]:
    if tiny:
        return [Case("floor", None, 2, nodes=1), Case("ours", shape.rank, 4, nodes=1)]
    rank, size = LARGE * shape.rank, shape.factors(LARGE * shape.rank)
    every = [
        Case("floor", None, 6),
        Case("floor", None, 3, bytes=size),  # before ours: the nodes are as Flower has them
        Case("ours", shape.rank, 7),
        Case("floor, our way", None, 6, pull=POLL),
        Case("ours", rank, 4),
        Case("ours, one node a round", rank, 4, nodes=1),
    ]
    return [every[i] for i in (0, 2, 3)] if quick else every


def _measured(running: Running, folder: Path, case: Case, sites: int) -> Row:
    """One app, from its start to its end."""
    name = f"{case.name}-{case.rank or case.bytes}".replace(" ", "-").replace(",", "")
    if case.rank is None:
        done = folder / f"{name}.done"
        told = running.app(name, FLOOR, done, {
            "nodes": sites, "rounds": case.rounds, "bytes": case.bytes, "pull": case.pull,
            "done": done,
        })  # fmt: skip
        return _row(case, told, slice(0, None), {"MB": case.bytes / 1e6})
    recipe, into = folder / f"{name}.yaml", folder / name
    recipe.write_text(dump(_recipe(folder, case, sites)))
    app, done = running.folder / init.SUPERLINK / "app", into / "records.jsonl"
    told = running.app(name, app, done, {"recipe": recipe, "folder": into})
    # Lines: the run, round 0, the rounds, the end. The last round evaluates.
    return _row(case, told, slice(2, case.rounds + 1), _said(done, case))


def _said(path: Path, case: Case) -> Row:
    """What the records say of the rounds that are timed.

    Raises:
        RuntimeError: somebody was left out.
    """
    found = [json.loads(line) for line in path.read_text().splitlines()]
    rounds = [one for one in found if one["kind"] == "round" and one["round"] > 0]
    if any(len(one["clients"]) != case.nodes for one in rounds):
        raise RuntimeError(f"{rounds[-1]['left_out']} were left out")
    slowest = [max(c["seconds"] for c in one["clients"]) for one in rounds[1:-1]]
    return {"MB": rounds[0]["clients"][0]["up"]["total"] / 1e6, "node s": fmean(slowest)}


def _row(case: Case, told: Told, ends: slice, said: Row) -> Row:
    seconds, moved = told.seconds(ends)
    peaks = told.peaks[ends]
    return {
        "app": case.name, "MB each way": said["MB"], "nodes": case.nodes, "s a round": seconds,
        "times": len(peaks) - 1, "spread": moved, "node s": said.get("node s"),
        "server MB, first": peaks[0] / 1e6, "server MB, last": peaks[-1] / 1e6,
    }  # fmt: skip


def _ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Ours over each floor, of 1 MB over a small array and of 100 MB over one of that size."""
    found = {
        name: _of(ours, "s a round") / _of(floor, "s a round") for name, floor, ours in _pairs(rows)
    }
    many, one = _named(rows, "ours")[1:], _named(rows, "ours, one node a round")
    if many and one:
        peak = "server MB, last"
        found["network_memory_three_over_one_100mb"] = _of(many[0], peak) / _of(one[0], peak)
    return found


def _spread(rows: Sequence[Row]) -> dict[str, float]:
    return {n: _of(floor, "spread") + _of(ours, "spread") for n, floor, ours in _pairs(rows)}


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[str, Row, Row]]:
    """(name of the ratio, floor, ours)"""
    for word, name in (("floor", "floor"), ("floor_our_way", "floor, our way")):
        pairs = zip(_named(rows, name), _named(rows, "ours"), ("1mb", "100mb"), strict=False)
        for floor, ours, size in pairs:
            yield f"network_over_{word}_{size}", floor, ours


def _named(rows: Sequence[Row], name: str) -> list[Row]:
    return [row for row in rows if row["app"] == name]


def _of(row: Row, column: str) -> float:
    return float(str(row[column]))


def _recipe(folder: Path, case: Case, sites: int) -> Recipe:
    return Recipe.model_validate({
        "name": "network",
        "model": str(folder / "model"),
        "data": {"path": folder, "clients": sites, "max_length": 8},
        "lora": {"targets": list(TARGETS), "ranks": case.rank},
        "algorithm": "replicate",
        "rounds": case.rounds,
        "participation": case.nodes / sites,
        "local": {"steps": 1, "batch": 2},
        "evaluation": {"every": case.rounds, "probe": 0},
        "engine": {"group": 1},
    })  # fmt: skip


def _write(folder: Path, shape: Shape) -> None:
    """A model with random weights, wide layers and few words; and a few texts."""
    words = WORDS.split()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words) + 1, hidden_size=shape.hidden, intermediate_size=shape.wide,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=16, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaModel(config).save_pretrained(folder / "model")
    ids = {word: i for i, word in enumerate(["<end>", *words])}
    plain = Tokenizer(models.WordLevel(ids, "<end>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>")
    tokenizer.save_pretrained(folder / "model")
    draw = random.Random(0)
    for name, count in (("train", 12), ("test", 4)):
        rows = [{"text": " ".join(draw.choices(words, k=6)), "label": i % 2} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
