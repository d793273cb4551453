"""What all simulations do: the same texts, ranks, targets, optimizer, rate and clipping."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

RANKS = (4, 8, 16, 32, 64)
TARGETS = ("query", "value")
CLASSES = 4
LR, CLIP = 1e-3, 1.0
# Each is one token of MiniLM's vocabulary, so that a text's length is known.
WORDS = """
time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work government number night point
home water room mother area money story fact month lot right study book
"""


class Setting(NamedTuple):
    """One way to simulate.

    Args:
        clients: in the federation.
        share: of them that take part in a round.
        steps: of each in a round.
        batch: texts in a step.
        length: tokens in a text.
        repeats: rounds that are timed.
        flower: whether Flower's engine runs it too.
    """

    clients: int
    share: float
    steps: int
    batch: int
    length: int
    repeats: int = 2
    flower: bool = False

    @property
    def active(self) -> int:
        """Clients in a round."""
        return max(1, round(self.share * self.clients))

    @property
    def samples(self) -> int:
        """Texts trained on in a round."""
        return self.active * self.steps * self.batch


def write(folder: Path, setting: Setting) -> dict[str, object]:
    """The texts of every client, of exactly the same length; and the words of a job about them."""
    draw = random.Random(0)
    each = setting.steps * setting.batch
    ids = [f"c{k:05d}" for k in range(setting.clients)]
    rows = [_text(draw, setting.length, id, i) for id in ids for i in range(each)]
    tests = [_text(draw, setting.length, "nobody", i) for i in range(CLASSES)]
    for name, some in (("train", rows), ("test", tests)):
        lines = "".join(json.dumps(row) + "\n" for row in some)
        (folder / f"{name}.jsonl").write_text(lines)
    return {"folder": str(folder), **setting._asdict(), "active": setting.active}


def recipe(args: Mapping[str, object], share: float) -> dict[str, object]:
    """The recipe of ours; every client holds as many texts as it trains on in a round."""
    folder, dtype = Path(str(args["folder"])), str(args.get("dtype", "float32"))
    engine: dict[str, object] = {"group": args["group"]}
    if dtype != "float32":
        engine["dtype"] = dtype
    return {
        "name": "bench",
        "model": "minilm",
        "data": {
            "path": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl"),
            "partition": "key(client)", "max_length": args["length"],
        },
        "lora": {"targets": list(TARGETS), "ranks": _mix(), "scale": 1.0},
        "algorithm": "replicate",
        "rounds": 1000,
        "participation": share,
        "local": {"epochs": 1, "batch": args["batch"], "lr": LR, "clip": CLIP},
        "evaluation": {"probe": 0},
        "engine": engine,
    }  # fmt: skip


def _mix() -> dict[int, float]:
    return {rank: 1 / len(RANKS) for rank in RANKS}


def _text(draw: random.Random, length: int, client: str, number: int) -> dict[str, str]:
    words = draw.choices(WORDS.split(), k=length - 2)  # and the two tokens around every text
    return {"text": " ".join(words), "label": str(number % CLASSES), "client": client}
