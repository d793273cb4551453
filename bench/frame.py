"""A run of the benchmark: limits of the machine, section by section, written as rows come."""

import datetime
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from bench import machine
from bench.measure import Failed
from bench.section import Limits, Row, Section

# in the order of the page
SECTIONS = (
    "aggregation", "choices", "simulation", "efficiency", "gpu", "wire", "scale", "plan", "billion",
    "network",
)  # fmt: skip
Size = Literal["full", "quick", "tiny"]
Say = Callable[[str, Row | None], None]  # hears of a section's beginning, and of each row


def measure(names: Sequence[str], size: Size, threads: int, into: Path, say: Say) -> bool:
    """Run sections and write what they find, whole or until they are interrupted.

    Sections of the file that are not asked for stay, if they are of this size; each says of which
    machine it is.

    Args:
        names: of SECTIONS.
        size: how much is measured.
        threads: for everything.
        into: the JSON file; it is replaced after each row.
        say: hears what is going on.

    Returns:
        Whether it was done to the end.
    """
    torch.set_num_threads(threads)
    found, whole = _begun(size, threads), True
    found["sections"] = _kept(found, into, names)
    try:
        for name in names:
            say(name, None)
            _add(found, name, size, into, say)
    except KeyboardInterrupt:
        found["sections"][-1]["interrupted"], whole = True, False
    _write(found, into)
    return whole


def _kept(now: dict[str, Any], into: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Sections that an earlier run wrote and this one does not measure."""
    before = json.loads(into.read_text()) if into.exists() else {}
    if before.get("size") != now["size"]:
        return []
    kept = [one for one in before["sections"] if one["name"] not in names]
    return [{"machine": before["machine"], **one} for one in kept]


def _begun(size: Size, threads: int) -> dict[str, Any]:
    """All that is known before the first section."""
    seconds, biggest = (0.05, 256) if size == "tiny" else (1.0, 2048)
    limits: dict[str, Any] = {
        "matmul": machine.peaks(size=biggest, seconds=seconds),
        "copy": machine.copy_bandwidth(mib=16 if size == "tiny" else 256),
    }
    return {
        "size": size,
        "machine": machine.description(threads),
        "limits": limits,
        "versions": machine.versions(),
    }


def _add(found: dict[str, Any], name: str, size: Size, into: Path, say: Say) -> None:
    """Run a section; what it has told until an interruption or a failure stays."""
    rows: list[Row] = []
    this: dict[str, Any] = {
        "name": name, "title": name.capitalize(), "rows": rows, "notes": [], "ratios": {},
        "spread": {}, "interrupted": False, "limits": found["limits"],
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "polyrank": found["versions"]["polyrank"], "machine": found["machine"],
    }  # fmt: skip
    found["sections"].append(this)

    def tell(row: Row) -> None:
        rows.append(row)
        say(name, row)
        _write(found, into)

    about, known = found["machine"], found["limits"]
    limits = Limits(about["threads"], known["matmul"], known["copy"], size == "tiny", tell)
    try:
        section: Section = importlib.import_module(f"bench.{name}").run(size != "full", limits)
    except Failed as error:
        tell({"note": f"failed: {error}"})
        return
    this |= {key: getattr(section, key) for key in ("title", "rows", "notes", "ratios", "spread")}
    _write(found, into)


def _write(found: dict[str, Any], into: Path) -> None:
    """Replace the file in one step; its flat ratios are those of all sections."""
    order = [name for name in SECTIONS if name in {one["name"] for one in found["sections"]}]
    sections = sorted(found["sections"], key=lambda one: order.index(one["name"]))
    flat = {
        key: {name: value for one in sections for name, value in one[key].items()}
        for key in ("ratios", "spread")
    }
    into.parent.mkdir(parents=True, exist_ok=True)
    part = into.with_suffix(".part")
    part.write_text(
        json.dumps(
            {**found, **flat, "sections": sections}, indent=1, ensure_ascii=False, allow_nan=False
        )
        + "\n"
    )
    part.replace(into)
