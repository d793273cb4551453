"""`federation.json` in the run folder: who is there, and how far the run is; for whoever watches.

{"round": 3, "rounds": 10, "started": 1764070000.0, "updated": …, "state": "running",
 "sites": [{"site": "hospital-a", "client": "client-0", "node": "812…", "rank": 8, "examples": 240,
            "last_seen": 1764070100.0, "state": "answered", "reason": null}]}

The run's state is waiting (for nodes), running or ended; its process holds `federation.lock` until
it ends, however it does. A site's state is connected (not yet asked), answered or left out (in the
last round, with its reason), or away. Times are seconds since 1970.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyrank import files
from polyrank.errors import StorageError
from polyrank.flower.alone import locked

FILE, LOCK = "federation.json", "federation.lock"
WAITING, RUNNING, ENDED = "waiting for nodes", "running", "ended"
Sites = dict[str, dict[str, Any]]  # by client id


def write(path: Path, sites: Mapping[str, Mapping[str, Any]], **facts: object) -> None:
    """Replace the file in a run folder in one step.

    Args:
        path: the run folder.
        sites: by client id.
        facts: round, rounds, started, updated, state.

    Raises:
        StorageError: it cannot be written.
    """
    content = {**facts, "sites": [dict(one) for _, one in sorted(sites.items())]}
    files.write(path / FILE, json.dumps(content, indent=1).encode() + b"\n")


def read(path: Path) -> dict[str, Any]:
    """What the file in a run folder says; {} where there is none.

    Raises:
        StorageError: it is damaged.
    """
    try:
        content = json.loads((path / FILE).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StorageError(f"{path / FILE} cannot be read: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("sites"), list):
        raise StorageError(f"{path / FILE} is no status of a federation")
    return content


def alive(path: Path) -> bool:
    """Whether a process is at work on the run in this folder."""
    return locked(path / LOCK)
