"""`flwr-clientapp` at a site whose warm process has its imports done (warm.py).

python -IS knock.py HOME SOCKET PROGRAM WORDS…: passes the words to that process, or becomes the
program itself where nobody listens. It is started for every message: nothing else is imported.
"""

import os
import socket
import sys

SEPARATOR = b"\0"


def main(home: str, name: str, program: str, *words: str) -> None:
    """Be done once the process has taken over."""
    here = os.getcwd()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            os.chdir(home)  # the path of a socket may not be long
            connection.connect(name)
            told = SEPARATOR.join(map(os.fsencode, [program, *words]))
            socket.send_fds(connection, [told], [1, 2])
            connection.shutdown(socket.SHUT_WR)
            if connection.recv(1):
                return
    except OSError:
        pass  # it has ended with its node, or is not there yet
    os.chdir(here)
    os.execv(program, [program, *words])


if __name__ == "__main__":
    main(*sys.argv[1:])
