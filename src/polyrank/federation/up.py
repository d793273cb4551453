"""A whole federation on this machine's loopback: started, run to its end, and ended."""

import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from polyrank.errors import FederationError
from polyrank.experiment.events import Began, RoundDone, Watch
from polyrank.experiment.folder import Folder
from polyrank.federation import init
from polyrank.federation.plan import Plan
from polyrank.federation.processes import Family, family
from polyrank.flower import status
from polyrank.recipe import Recipe
from polyrank.report import records

_START, _HEARD = 60.0, 240.0  # seconds to listen, and for the first site to be heard of
_PAUSE = 0.3
_ERRANDS = {"register", "run"}  # what is to end by itself
_NOISE = re.compile(r"\x1b\[[0-9;]*m|[─│╭╮╰╯]")  # colours and boxes
# As the last line of a traceback has it, or our own line in Flower's log.
_ERROR = re.compile(r"[\w.]+(Error|Exception): |ERROR\s*:\s+polyrank: ")
_LAST = 3  # otherwise, lines of a log that are told of a process that failed
Say = Callable[[str], None]


def check_flower() -> None:
    """Make sure that Flower is here.

    Raises:
        FederationError: it is not.
    """
    if find_spec("flwr") is None:
        raise FederationError("this needs Flower: pip install 'polyrank[flower]'")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens at."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def local(folder: Path, plan: Plan, say: Say, watch: Watch) -> Folder:
    """Write a federation to a new folder, run its recipe to the end, and end its processes.

    Args:
        folder: for all of it, logs too.
        plan: with every port on the loopback.
        say: told what is being done, a line each.
        watch: told the run's rounds.

    Raises:
        FederationError: one of its processes failed; the line says which log tells why.
        StorageError: the folder cannot be written.
    """
    run = Folder((folder / init.RUN).resolve())
    with started(folder, plan, say) as (members, environment):
        members.start("run", [folder / init.SUPERLINK / "run.sh"], environment)
        _follow(run, plan.recipe, members, watch)
    return run


@contextmanager
def started(folder: Path, plan: Plan, say: Say) -> Iterator[tuple[Family, Mapping[str, str]]]:
    """A federation in a new folder, at work: its processes, and the environment they are in.

    All of them have ended when the block ends. The sites may not have connected yet.

    Args:
        folder: for all of it, logs too.
        plan: with every port on the loopback.
        say: told what is being done, a line each.

    Raises:
        FederationError: one of its processes failed; the line says which log tells why.
        StorageError: the folder cannot be written.
    """
    init.write(folder, plan)
    environment = _environment(len(plan.clients))
    superlink = folder / init.SUPERLINK
    with family(folder / "logs") as members:
        say(f"SuperLink at 127.0.0.1:{plan.inner}")
        members.start("superlink", [superlink / "start.sh"], environment)
        _until(lambda: listens(plan.inner, superlink / "authority.pem"), _START, members)
        say(f"letting {len(plan.clients)} sites in by their keys")
        members.start("register", [superlink / "register.sh"], environment)
        _until(lambda: "register" in members.ended(), _START, members)
        for site, client in plan.clients.items():
            say(f"{site}: client {client}")
            members.start(site, [folder / init.SITES / site / "start.sh"], environment)
        yield members, environment


def listens(port: int, authority: Path) -> bool:
    """Whether a server with a certificate of this authority is at that port of the loopback."""
    trust = ssl.create_default_context(cafile=authority)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            trust.wrap_socket(plain, server_hostname="127.0.0.1"),
        ):
            return True
    except OSError:
        return False


def _follow(run: Folder, recipe: Recipe, members: Family, watch: Watch) -> None:
    """Tell the rounds until the run is complete."""
    watch(Began(recipe.name, run.path, 0, recipe.rounds))
    _until(
        lambda: bool(status.read(run.path).get("sites")) or "run" in members.ended(),
        _HEARD,
        members,
    )
    told = 0
    while True:
        ended = "run" in members.ended()  # asked first: what it wrote before that is there
        rounds = records.load(run.records).rounds if run.records.exists() else ()
        for record in rounds[told:]:
            watch(RoundDone(record))
        told = len(rounds)
        if run.complete:
            return
        if ended:
            raise failed("run", "ended before the run was complete", members)
        _refuse_ended(members)
        time.sleep(_PAUSE)


def _until(done: Callable[[], object], patience: float, members: Family) -> None:
    """Wait for something, as long as nothing has failed.

    Raises:
        FederationError: it did not come in time, or a process failed meanwhile.
    """
    until = time.monotonic() + patience
    while not done():
        _refuse_ended(members)
        if time.monotonic() > until:
            name = list(members.started)[-1]
            raise failed(name, f"had done nothing that shows after {patience:.0f} s", members)
        time.sleep(_PAUSE)
    _refuse_ended(members)


def _refuse_ended(members: Family) -> None:
    """Make sure that all run that should, and that what has ended has ended well."""
    for name, code in members.ended().items():
        if code or name not in _ERRANDS:
            raise failed(name, f"ended with code {code}", members)


def failed(name: str, how: str, members: Family) -> FederationError:
    """What is said of a process that failed: how, and the last that is in its log."""
    log = members.log(name)
    lines = _NOISE.sub(" ", log.read_text(errors="replace")).strip().splitlines()
    errors = [line for line in lines if _ERROR.match(line.strip())]
    last = " ".join(" ".join(errors[-1:] or lines[-_LAST:]).split())
    return FederationError(f"{name} {how}; the last it said, in {log}: {last or 'nothing'}")


def _environment(sites: int) -> Mapping[str, str]:
    """What all of it runs in: our own environment, and a fair share of the cores each."""
    around = dict(os.environ)
    here = "127.0.0.1,localhost"  # a proxy knows nothing of our loopback
    direct = {
        name: ",".join(filter(None, (around.get(name), here))) for name in ("no_proxy", "NO_PROXY")
    }
    threads = str(max(1, (os.cpu_count() or 1) // sites))
    return {
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        **around,
        **direct,
        "POLYRANK_BIN": str(Path(sys.executable).parent),
    }
