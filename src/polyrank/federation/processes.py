"""Processes that end together: all that were started here, and all that those have started.

Flower puts some of its own into sessions of their own, and a trainer outlives the message that
began it, so a process group does not hold them together. A word in their environment does: they
inherit it, and nobody else has it.

`python -m polyrank.federation.processes MARK` watches over them: it ends them once its standard
input is closed, which happens to a process that is killed too.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from polyrank.errors import FederationError

_MARK = "POLYRANK_STARTED_BY"
_PATIENCE = 10.0  # seconds between asking to end and ending
_PROC = Path("/proc")


@dataclass(slots=True)
class Family:
    """Started processes by name.

    Args:
        logs: the folder for what each of them prints.
        mark: the word by which they are known.
        started: by name.
    """

    logs: Path
    mark: str = field(default_factory=lambda: uuid4().hex)
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a command whose output goes to the log of that name."""
        with self.log(name).open("ab") as log:
            self.started[name] = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**environment, _MARK: self.mark}, start_new_session=True,
            )  # fmt: skip
        return self.started[name]

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def ended(self) -> dict[str, int]:
        """By name, the exit codes of those that have ended."""
        codes = {name: process.poll() for name, process in self.started.items()}
        return {name: code for name, code in codes.items() if code is not None}


@contextmanager
def family(logs: Path) -> Iterator[Family]:
    """Processes that have ended when the block ends, however it does.

    Raises:
        FederationError: this system does not say what environment a process has.
    """
    if not (_PROC / "self/environ").exists():
        raise FederationError(
            "this command ends what it started by /proc, which only Linux has; `polyrank "
            "federation init` writes scripts that can be started by hand"
        )
    logs.mkdir(parents=True, exist_ok=True)
    members = Family(logs)
    with _watched(members):
        try:
            yield members
        finally:
            end(members)


@contextmanager
def _watched(members: Family) -> Iterator[None]:
    """End them even if this process is killed before it can."""
    command = [sys.executable, "-m", __name__, members.mark]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    with watcher:  # closes its input at the end, and waits
        yield


def end(members: Family) -> None:
    """Ask all of them to end, and end those that do not."""
    for number, patience in ((signal.SIGTERM, _PATIENCE), (signal.SIGKILL, _PATIENCE)):
        until = time.monotonic() + patience
        asked: set[int] = set()
        while (living := alive(members)) and time.monotonic() < until:
            for pid in living - asked:
                _send(pid, number, members)
            asked |= living
            time.sleep(0.1)
    for process in members.started.values():
        process.wait()


def alive(members: Family) -> set[int]:
    """The ids of all processes that were started here or have the mark, and are not dead."""
    ids = (int(path.name) for path in _PROC.iterdir() if path.name.isdecimal())
    return {pid for pid in ids if _marked(pid, members)} | _children(members)


def _children(members: Family) -> set[int]:
    """Those started here; some, as nginx, write over their environment."""
    return {process.pid for process in members.started.values() if process.poll() is None}


def _marked(pid: int, members: Family) -> bool:
    try:
        words = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # it is gone, or somebody else's
        return False
    return f"{_MARK}={members.mark}".encode() in words


def _send(pid: int, number: signal.Signals, members: Family) -> None:
    """Signal a member: by a handle, since its id may be another's by now."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if pid in _children(members) or _marked(pid, members):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end(Family(Path(), sys.argv[1]))
