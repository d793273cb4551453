"""Processes that a site has one of, as long as its node lives, each behind a Unix socket.

Standard library only: the process of every message imports it.
"""

import os
import socket
import sys
from contextlib import chdir
from pathlib import Path

NODE = "POLYRANK_NODE"  # in the environment of a process that was not started by the node itself


def node() -> int:
    """The process id of the node's program that asked for this process: with it, all end."""
    return int(os.environ.get(NODE, os.getppid()))


def start(module: str, home: Path, log: str) -> int:
    """The process id of a new `python -m MODULE HOME NODE`, in a session of its own."""
    command = [sys.executable, "-m", module, str(home), str(node())]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files_of_its_own = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(home / log), flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(
        sys.executable, command, os.environ, file_actions=files_of_its_own, setsid=True
    )


def listener(home: Path, name: str) -> socket.socket:
    """The socket of that name in the site's folder, to listen at."""
    listening = socket.socket(socket.AF_UNIX)
    with chdir(home):  # the path of a socket may not be long
        Path(name).unlink(missing_ok=True)
        listening.bind(name)
    listening.listen()
    return listening


def connected(home: Path, name: str) -> socket.socket | None:
    """A connection to who listens there; None if nobody does."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        with chdir(home):
            connection.connect(name)
    except (FileNotFoundError, ConnectionError):
        connection.close()
        return None
    return connection


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")  # of Linux; one that is dead may wait for its parent
    return stat.exists() and stat.read_bytes().rpartition(b")")[2].split()[0] == b"Z"
