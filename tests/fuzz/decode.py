"""The coverage-guided fuzzer: `python -m tests.fuzz.decode --seconds 600`.

Messages are changed as what they are (a header of JSON with facts in it, and bytes), and as bytes.
It goes on after a find, keeps the shortest bytes of each, and ends with a line for every one.
"""

import argparse
import json
import multiprocessing
import random
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import atheris

from tests.fuzz import finds
from tests.fuzz.finds import Find

with atheris.instrument_imports(include=["polyrank", "safetensors"]):
    from tests.fuzz import targets as of
    from tests.fuzz.targets import pulled_apart, put_together

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 255, 2**31, 2**53, 2**62, 2**63, 2**64, 10**400, 0.5, 1e39,
    1e308, float("inf"), float("nan"), "", "x", "a/b", "\ud800", "9" * 5000, [], {}, [[]], [0],
    [2**40], [1, 1, 1], [0, 2**62, 4], "F32", "I8", "U8", "BOOL", "F8_E4M3", "C64", "F64", "BF16",
)  # fmt: skip
WORDS = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f", b"\xff" * 8, b"\x00" * 8)


class Session:
    """What a fuzzing session has seen.

    Args:
        path: the file that finds are written to, as they come.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.targets = path, of.targets()
        self.names = sorted(self.targets)  # the first byte of an input is a place in this list
        self.found: dict[str, Find] = {}  # by where it happened, the shortest bytes

    def seeds(self) -> list[bytes]:
        """An input for each reader, and each find there was."""
        sent = [(name, target.seed) for name, target in self.targets.items()]
        known = [(f.target, f.data) for f in (*finds.read(), *finds.read(finds.CORPUS))]
        return [bytes([self.names.index(name)]) + data for name, data in (*sent, *known)]

    def one(self, data: bytes) -> None:
        """Try one input."""
        if not data or data[0] >= len(self.names):
            return
        name = self.names[data[0]]
        try:
            self.targets[name].check(data[1:])
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)
            last = next((f for f in reversed(where) if "polyrank/" in f.filename), where[-1])
            key = f"{type(error).__name__} {last.name}:{last.lineno} {where[-1].name}"
            told = f"{type(error).__name__} in {last.name}: {str(error)[:120]}"
            if key not in self.found or len(data) <= len(self.found[key].data):
                self.found[key] = Find(name, data[1:], told)
                finds.write(self.path, self.found.values())


def mutated(seeds: Sequence[bytes], data: bytes, most: int, seed: int) -> bytes:
    """The input changed once: in its header, in its facts, in its numbers, or anywhere.

    Often a seed is changed in its place: the fuzzer drops those that reach no code of their own, as
    messages of another algorithm do, and with them the reader that they are for.
    """
    draw = random.Random(seed)
    if draw.random() < 0.3:
        data = draw.choice(seeds)
    try:
        tree, blob = pulled_apart(data[1:])
        facts = tree.get("__metadata__", {}).get("polyrank") if isinstance(tree, dict) else None
        inner = json.loads(facts) if isinstance(facts, str) else None
    except (ValueError, RecursionError, AttributeError):
        return bytes(atheris.Mutate(data, most))
    kind = draw.random()
    if kind < 0.2:
        return bytes(atheris.Mutate(data, most))
    if kind < 0.3 and blob:
        word, at = draw.choice(WORDS), 4 * draw.randrange(max(1, len(blob) // 4))
        blob = blob[:at] + word + blob[at + len(word) :]
    elif kind < 0.7 and inner is not None:
        for _ in range(draw.randint(1, 3)):
            inner = _changed(inner, draw)
        tree["__metadata__"]["polyrank"] = json.dumps(inner)
    else:
        for _ in range(draw.randint(1, 2)):
            tree = _changed(tree, draw)
        if draw.random() < 0.5:
            tree, blob = _reshaped(tree, blob, draw)
    found = data[:1] + put_together(tree, blob)
    return found if len(found) <= most else data


def _changed(tree: Any, draw: random.Random) -> Any:
    """A tree with one node replaced, left out, doubled, or put in another's place."""
    if not isinstance(tree, dict | list) or not tree or draw.random() < 0.15:
        near = [tree + 1, tree - 1, -tree, tree * 2] if type(tree) in (int, float) else []
        return draw.choice([*ODD, *near, *near])
    key = draw.choice(list(tree)) if isinstance(tree, dict) else draw.randrange(len(tree))
    new = dict(tree) if isinstance(tree, dict) else list(tree)
    kind = draw.random()
    if kind < 0.1:
        del new[key]
    elif kind < 0.2 and isinstance(new, dict):
        new[draw.choice(["", "q", "factors/q", "own", "common", f"{key}x"])] = new[key]
    elif kind < 0.2:
        new.append(new[key])
    elif kind < 0.3:
        new[key] = new[draw.choice(list(new)) if isinstance(new, dict) else 0]
    else:
        new[key] = _changed(new[key], draw)
    return new


def _reshaped(tree: Any, blob: bytes, draw: random.Random) -> tuple[Any, bytes]:
    """A header whose tensors lie side by side again, in any shapes, with bytes for them."""
    if not isinstance(tree, dict):
        return tree, blob
    new, end = dict(tree), 0
    widths = {"F32": 4, "F64": 8, "BF16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "C64": 8}
    for name, entry in tree.items():
        if not (isinstance(entry, dict) and isinstance(entry.get("shape"), list)):
            continue
        shape = [d if type(d) is int and 0 <= d < 64 else 1 for d in entry["shape"]]
        if draw.random() < 0.2:
            shape = draw.choice([[*shape, 1], [*shape, 3], shape[:1], [], shape[::-1], [0, *shape]])
        size = widths.get(str(entry.get("dtype")), 4)
        for d in shape:
            size *= d
        new[name] = {**entry, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    return new, (blob + bytes(end))[:end] if end < 2**16 else blob


def fuzz(seconds: int, folder: Path, out: Path) -> None:
    """Fuzz for so many seconds; the fuzzer itself ends the process."""
    session = Session(out)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = session.seeds()
    for i, data in enumerate(seeds):
        (folder / f"seed-{i}").write_bytes(data)
    flags = [f"-max_total_time={seconds}", "-max_len=20000", "-timeout=60", "-print_final_stats=1"]
    argv = [sys.argv[0], str(folder), *flags, "-rss_limit_mb=4096"]
    atheris.Setup(argv, session.one, custom_mutator=partial(mutated, seeds))
    atheris.Fuzz()


def main() -> int:
    """Fuzz in a process of its own, and say what came of it; 1 if anything did."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="a folder that inputs with new coverage go to")
    parser.add_argument("--out", type=Path, help="the file that finds go to")
    given = parser.parse_args()
    aside = Path(mkdtemp(prefix="fuzz-"))
    out, corpus = given.out or aside / "finds.jsonl", given.corpus or aside / "corpus"
    finds.write(out, [])
    child = multiprocessing.Process(target=fuzz, args=(given.seconds, corpus, out))
    child.start()
    child.join()
    found = finds.read(out)
    for one in found:
        sys.stdout.write(f"{one.target}: {one.problem} ({len(one.data)} bytes)\n")
    sys.stdout.write(f"{len(found)} finds, in {out}\n")
    return int(bool(found) or child.exitcode != 0)


if __name__ == "__main__":
    sys.exit(main())
