"""A federation on this machine's loopback as `polyrank federation init` writes it, and apps on it.

The SuperLink and the SuperNodes are the same for every app. A round is timed from outside, by the
line that each app adds to a file of its own when a round is done.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from bench.measure import Failed, spread
from polyrank.errors import FederationError
from polyrank.federation import init, up
from polyrank.federation.plan import LOOPBACK, Plan, first_clients, site_names
from polyrank.federation.processes import Family, alive
from polyrank.recipe import Recipe

LOOK = 0.05  # seconds between two looks at what an app has done
SERVER = "flwr-serverapp"  # the process of a ServerApp


@dataclass(slots=True)
class Told:
    """What was seen of an app's rounds.

    Args:
        at: when each line came.
        peaks: the most bytes that the ServerApp's process had had by then.
    """

    at: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)

    def seconds(self, ends: slice) -> tuple[float, float]:
        """(seconds a round, spread) between the lines that `ends` names."""
        at = self.at[ends]
        each = [after - before for before, after in pairwise(at)]
        return fmean(each), spread(each)


@dataclass(slots=True)
class Running:
    """A federation at work."""

    folder: Path
    members: Family
    environment: Mapping[str, str]

    def app(self, name: str, path: Path, done: Path, config: Mapping[str, object]) -> Told:
        """Run an app to its end.

        Args:
            name: of the log.
            path: of the app.
            done: the file that gets a line after each round.
            config: its run config.

        Raises:
            Failed: it did not end well.
        """
        words = " ".join(f"{k}={_word(v)}" for k, v in config.items())
        program = self.folder / init.SUPERLINK / "flwr.sh"
        command: list[str | Path] = [program, "run", path, "--stream", "--run-config", words]
        process = self.members.start(name, command, self.environment)
        told = Told()
        while process.poll() is None or _lines(done) > len(told.at):
            if _lines(done) > len(told.at):
                told.at.append(time.perf_counter())
                told.peaks.append(_peak(_server(self.members)))
            time.sleep(LOOK)
        if process.returncode or "ERROR" in self.members.log(name).read_text():
            raise Failed(str(up.failed(name, "ended", self.members)))
        del self.members.started[name]
        return told


@contextmanager
def federation(folder: Path, sites: int, recipe: Recipe) -> Iterator[Running]:
    """A SuperLink with TLS and node authentication, and so many SuperNodes.

    Raises:
        Failed: one of its processes did not start.
    """
    names, (port, *ports) = site_names(sites), up.free_ports(sites + 1)
    own = dict(zip(names, ports, strict=True))
    plan = Plan(recipe, first_clients(recipe, names), LOOPBACK[1:], port, port, own)
    try:
        up.check_flower()
        with up.started(folder, plan, lambda line: None) as (members, environment):
            yield Running(folder, members, environment)
    except FederationError as error:
        raise Failed(str(error)) from None


def _word(value: object) -> str:
    """A value as Flower's command line takes it."""
    return str(value) if isinstance(value, int | float) else f'"{value}"'


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _server(members: Family) -> int:
    """The process id of the ServerApp that runs; 0 where there is none yet."""
    return next((pid for pid in alive(members) if SERVER in _command(pid)), 0)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _peak(pid: int) -> int:
    """The most bytes of memory that a process has had; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(li.split()[1]) * 1024 for li in lines if li.startswith("VmHWM")), 0)
