"""What has been found, as text: one line of JSON for each, so that it is tried again for ever."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

FINDS = Path(__file__).parent / "finds.jsonl"
CORPUS = Path(__file__).parent / "corpus.jsonl"  # what led it on: no problem yet


class Find(NamedTuple):
    """Bytes at which a reader once did what it must not.

    Args:
        target: which reader.
        data: the bytes.
        problem: what it did.
    """

    target: str
    data: bytes
    problem: str


def read(path: Path = FINDS) -> list[Find]:
    """All of them."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [Find(r["target"], base64.b64decode(r["data"]), r["problem"]) for r in rows]


def write(path: Path, found: Iterable[Find]) -> None:
    """Replace the file's content by these."""
    rows = [
        {"target": f.target, "problem": f.problem, "data": base64.b64encode(f.data).decode()}
        for f in found
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
