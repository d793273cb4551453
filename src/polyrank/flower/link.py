"""From the process of one message to the trainer that lives as long as the node.

A request and its reply are each a header of JSON and some bytes, both after their lengths, over a
Unix socket in the site's own folder. Standard library only.
"""

import json
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyrank import files
from polyrank.errors import PolyrankError
from polyrank.flower import resident

SOCKET, LOG = "trainer.sock", "trainer.log"
LENGTHS = struct.Struct(">IQ")
START = 120.0  # seconds for a trainer to listen: it loads torch first
PAUSES = (0.0, 0.5, 2.0)  # seconds before each try to be answered
Told = dict[str, Any]


class TrainerError(PolyrankError, RuntimeError):
    """The trainer cannot be started, or ended in the midst of its work."""


def ask(home: Path, header: Mapping[str, Any], data: bytes) -> tuple[Told, bytes]:
    """What the site's trainer answers; one is started if there is none.

    A trainer that ends before it answers is started again: a round is done anew from the state
    before it. One that is being killed may still take a connection, so there are pauses.

    Raises:
        TrainerError: it cannot be started, or ended again.
    """
    for pause in PAUSES:
        time.sleep(pause)
        with _connected(home) as connection:
            try:
                send(connection, {**header, "pid": resident.node()}, data)
                return receive(connection)
            except (ConnectionError, EOFError):
                continue
    raise TrainerError(f"the trainer ended before it answered; see {home / LOG}")


def send(connection: socket.socket, header: Mapping[str, Any], data: bytes) -> None:
    """One message, whole."""
    text = json.dumps(header).encode()
    connection.sendall(LENGTHS.pack(len(text), len(data)) + text)
    if data:  # the other side may have all it needs, and be gone
        connection.sendall(data)


def receive(connection: socket.socket) -> tuple[Told, bytes]:
    """One message, whole.

    Raises:
        EOFError: the other side is gone.
    """
    header, data = LENGTHS.unpack(_exactly(connection, LENGTHS.size))
    return json.loads(_exactly(connection, header)), bytes(_exactly(connection, data))


def private(home: Path) -> None:
    """Make the site's folder, for nobody else's eyes.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
    except OSError as error:
        raise files.unwritable(home, error) from None


def _connected(home: Path) -> socket.socket:
    private(home)
    if connection := resident.connected(home, SOCKET):
        return connection
    log, trainer = home / LOG, resident.start("polyrank.flower.trainer", home, LOG)
    end = time.monotonic() + START
    while time.monotonic() < end:
        if connection := resident.connected(home, SOCKET):
            return connection
        # One that finds another at work ends well: that one is about to listen.
        ended, code = os.waitpid(trainer, os.WNOHANG) if trainer else (0, 0)
        if ended and code:
            break
        trainer = 0 if ended else trainer
        time.sleep(0.1)
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    raise TrainerError(f"the trainer does not start ({last or 'no word from it'}); see {log}")


def _exactly(connection: socket.socket, count: int) -> bytearray:
    found = bytearray(count)
    view = memoryview(found)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return found
