"""The trainer of a site: `python -m polyrank.flower.trainer HOME PID`.

One process per site, as long as the node whose process is PID; then each message is a request.
"""

import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from polyrank.errors import PolyrankError
from polyrank.flower import alone, link, resident
from polyrank.flower.node import NODE

IDLE = 3600.0  # seconds without a message, after which it ends
LOCK = "trainer.lock"


def main(home: Path, node: int) -> None:
    """Answer one request after another, until the node is gone or there are none for long."""
    only = alone.lock(home / LOCK)  # until this process ends
    if only is None:
        return
    alive = {"pid": node}
    threading.Thread(target=_watch, args=(alive,), daemon=True).start()
    listening = resident.listener(home, link.SOCKET)
    listening.settimeout(IDLE)
    while True:
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            return
        with connection:
            connection.settimeout(None)
            _serve(connection, alive)


def _serve(connection: Any, alive: dict[str, int]) -> None:
    try:
        request, data = link.receive(connection)
        alive["pid"] = request["pid"]
        link.send(connection, *_answer(request, data))
    except (EOFError, ConnectionError) as error:
        sys.stderr.write(f"a message's process went away before it was answered: {error!r}\n")


def _answer(request: link.Told, data: bytes) -> tuple[link.Told, bytes]:
    try:
        return NODE.answer(request, data)
    except PolyrankError as error:
        return {"failure": str(error)}, b""
    except Exception as error:  # the node goes on; what it was stands in its log
        traceback.print_exc()
        return {"failure": f"{type(error).__name__} in the trainer; see its log"}, b""


def _watch(alive: dict[str, int]) -> None:
    while not resident.gone(alive["pid"]):
        time.sleep(1)
    os._exit(0)  # in the midst of a round too: nobody waits for it


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
