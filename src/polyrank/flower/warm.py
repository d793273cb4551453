"""Flower's program for a message with its imports done: `python -m polyrank.flower.warm HOME PID`.

Flower starts `flwr-clientapp` for every message, and its imports take longer than all else that it
does. It finds the program by its name on the PATH. Where a site's own HOME/bin comes first there,
as start.sh has it, this process puts one of that name into it, which passes on what it is called
with (knock.py); this process then forks one that does Flower's own. It ends with its node.
"""

import os
import random
import shlex
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from polyrank.flower import alone, knock, resident

PROGRAM = "flwr-clientapp"
SOCKET, LOCK, LOG = "clientapp.sock", "clientapp.lock", "clientapp.log"
_MOST = 1 << 16  # bytes of what a program is called with


class Call(NamedTuple):
    """What a program was called with, its name first; the files that it writes to."""

    words: Sequence[str]
    files: Sequence[int]


def begin(home: Path) -> None:
    """Start the site's warm process, where the PATH asks for it and this is not of its making."""
    if str(_bin(home)) in _path() and resident.NODE not in os.environ:
        resident.start("polyrank.flower.warm", home, LOG)


def main(home: Path, node: int) -> None:
    """Fork one process after another, until the node is gone."""
    only = alone.lock(home / LOCK)  # until this process ends
    if only is None:
        return
    import numpy as np
    from flwr.supernode.cli import flwr_clientapp

    import polyrank.flower.client_app  # noqa: F401  (what the app imports)

    def work() -> None:
        random.seed()  # or every message would draw the same
        np.random.seed()
        flwr_clientapp()

    listening = resident.listener(home, SOCKET)
    listening.settimeout(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    _install(home)
    while not resident.gone(node):
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        with connection:
            connection.settimeout(5)
            if (call := _call(connection)) is None:
                continue
            if os.fork() == 0:
                listening.close()  # or it would seem to listen when this process has ended
                _become(call, node, work)
            for file in call.files:
                os.close(file)
            with suppress(OSError):  # it may be gone: its work is taken over
                connection.sendall(b"1")


def _call(connection: socket.socket) -> Call | None:
    """What a program was called with; None if it went away."""
    try:
        told, files, _, _ = socket.recv_fds(connection, _MOST, 2)
        while more := connection.recv(_MOST):
            told += more
    except OSError as error:
        sys.stderr.write(f"a message's program went away: {error!r}\n")
        return None
    return Call([os.fsdecode(word) for word in told.split(knock.SEPARATOR)], files)


def _become(call: Call, node: int, work: Callable[[], None]) -> None:
    """Be the program that was called, with its output; never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for file, place in zip(call.files, (1, 2), strict=True):
            os.dup2(file, place)
        os.environ[resident.NODE] = str(node)
        sys.argv = list(call.words)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _install(home: Path) -> None:
    """Put the program into the site's folder, in one step."""
    elsewhere = os.pathsep.join(p for p in _path() if p != str(_bin(home)))
    program = shutil.which(PROGRAM, path=elsewhere)
    if program is None:
        raise SystemExit(f"{PROGRAM} is nowhere on the PATH")
    words = [sys.executable, "-IS", knock.__file__, str(home), SOCKET, program]
    _bin(home).mkdir(exist_ok=True)
    new = _bin(home) / f".{PROGRAM}"
    new.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    new.chmod(0o700)
    new.replace(_bin(home) / PROGRAM)


def _bin(home: Path) -> Path:
    return home / "bin"


def _path() -> list[str]:
    return os.environ.get("PATH", "").split(os.pathsep)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
