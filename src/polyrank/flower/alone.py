"""One process at a time: a lock on a file, which ends with the process that holds it."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PAUSE = 0.2  # seconds between two tries


def lock(path: Path) -> IO[bytes] | None:
    """The lock, as long as it is not closed; None if another process has it."""
    held = path.open("ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return None
    return held


def locked(path: Path) -> bool:
    """Whether a process has the lock."""
    try:
        with path.open("rb") as seen:
            fcntl.flock(seen, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def alone(path: Path, patience: float) -> Iterator[bool]:
    """Hold the lock during the block; whether it could be had.

    Args:
        path: the file, in a folder that is there.
        patience: seconds to wait for it.
    """
    end = time.monotonic() + patience
    while (held := lock(path)) is None and time.monotonic() < end:
        time.sleep(_PAUSE)
    try:
        yield held is not None
    finally:
        if held is not None:
            held.close()
