"""Going on with a run over a network, by the script that began it."""

import os
import subprocess
import sys
from pathlib import Path

from polyrank.errors import FederationError
from polyrank.experiment.folder import Folder
from polyrank.flower import status

_RUN, _SCRIPT = "run", "run.sh"  # in the server's folder


def script(run: Path) -> Path | None:
    """The script by which the run of this folder began, if it is that of a federation's server.

    Raises:
        StorageError: what the folder says of its federation is damaged.
    """
    place = run.resolve()
    found = place.parent / _SCRIPT
    return found if place.name == _RUN and found.exists() and status.read(run) else None


def go_on(run: Path, by: Path) -> None:
    """Start the script, which tells what it does, and wait for its end.

    Args:
        run: the run folder.
        by: the script; it finds Flower where this program is, unless `POLYRANK_BIN` says another.

    Raises:
        FederationError: the run is not complete after it.
    """
    here = str(Path(sys.executable).parent)
    subprocess.run([by], env={"POLYRANK_BIN": here, **os.environ})
    if not Folder(run).complete:
        raise FederationError(
            f"{run} has not come to its end; {by} said why. Finished rounds are safe"
        )
