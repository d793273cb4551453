"""What lies in an offline run's file of Weights & Biases, whose library has no reader of it.

A file is a log of LevelDB's: blocks of 32 KiB; before each piece of a record its checksum, its
size, and whether it is whole (1), the first, one of the middle, or the last (4).
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7
WHOLE, LAST = 1, 4


def history(folder: Path) -> list[dict[str, Any]]:
    """What was logged, in order."""
    return [_values(r.history.item) for r in _records(folder) if r.HasField("history")]


def summary(folder: Path) -> dict[str, Any]:
    """The numbers beside the history."""
    found: dict[str, Any] = {}
    for record in _records(folder):
        found |= _values(record.summary.update)
    return found


def config(folder: Path) -> dict[str, Any]:
    """What the run says of itself."""
    (run,) = [r.run for r in _records(folder) if r.HasField("run")]
    return {**_values(run.config.update), "id": run.run_id, "project": run.project}


def _values(items: Any) -> dict[str, Any]:
    return {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}


def _records(folder: Path) -> Iterator[Record]:
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data, at, parts = file.read_bytes(), HEADER, b""
    assert data.startswith(b":W&B")
    while at + HEADER <= len(data):
        if (left := BLOCK - at % BLOCK) < HEADER:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + HEADER])
        parts += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
