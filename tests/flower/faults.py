"""What goes wrong on real machines, done to a federation that `polyrank federation init` wrote."""

import asyncio
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from polyrank.federation import init
from polyrank.federation.plan import LOOPBACK, Plan, site_names
from polyrank.federation.processes import Family, alive, family
from polyrank.federation.up import free_ports, listens
from polyrank.recipe import Recipe
from polyrank.report import records
from polyrank.report.records import RunRecords

TICKS = os.sysconf("SC_CLK_TCK")
_RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: on, 0 seconds: closing tells no end, but resets


class Cable:
    """What nodes reach the server by: a way over the loopback that can be cut.

    Args:
        to: the port at its other end.
    """

    def __init__(self, to: int) -> None:
        (self.port,) = free_ports(1)
        self.to, self.passed = to, 0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.mend()

    def mend(self) -> None:
        """Let connections in, from now on."""
        self._do(self._mend())

    def cut(self) -> None:
        """Drop all that is connected, and refuse what comes."""
        self._do(self._cut())

    def end(self) -> None:
        """Leave nothing behind."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def _do(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _mend(self) -> None:
        self._door = await asyncio.start_server(self._let_in, "127.0.0.1", self.port)

    async def _cut(self) -> None:
        self._door.close()
        for one in list(self._open):
            self._drop(one)
        await asyncio.sleep(0.1)  # for those who read from them to see it

    async def _let_in(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self._open.add(near)
        try:
            answers, far = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            self._drop(near)
            return
        self._open.add(far)
        self.passed += 1
        await asyncio.gather(self._carry(reader, far), self._carry(answers, near))

    async def _carry(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                to.write(data)
                await to.drain()
        self._drop(to)

    def _drop(self, one: asyncio.StreamWriter) -> None:
        self._open.discard(one)
        if not one.transport.is_closing():
            bare = one.get_extra_info("socket")
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            one.transport.abort()


def until(done: Callable[[], object], what: str, seconds: float) -> None:
    """Wait until something holds; fail with what was awaited if it does not in time."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(0.05)


@dataclass
class Deployed:
    """A federation as it is deployed: a folder for the server and one for each site.

    Args:
        folder: what `init` wrote.
        plan: what it was told.
        members: its processes.
        cable: between sites and server.
    """

    folder: Path
    plan: Plan
    members: Family
    cable: Cable

    @property
    def run(self) -> Path:
        return self.folder / init.RUN

    @property
    def environment(self) -> dict[str, str]:
        around = {**os.environ, "OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1,localhost"}
        return {**around, "POLYRANK_BIN": str(Path(sys.executable).parent)}

    @property
    def records(self) -> RunRecords:
        return records.load(self.run / records.FILE)

    @property
    def done(self) -> int:
        """How many rounds are."""
        return self.records.done if (self.run / records.FILE).exists() else 0

    def superlink(self) -> None:
        """Start the server, and wait until it listens."""
        place = self.folder / init.SUPERLINK
        self.members.start("superlink", [place / "start.sh"], self.environment)
        until(lambda: listens(self.plan.inner, place / "authority.pem"), "SuperLink", 60)

    def register(self) -> None:
        """Let all sites in."""
        script = self.folder / init.SUPERLINK / "register.sh"
        around = self.environment
        subprocess.run([script], env=around, check=True, capture_output=True, timeout=90)

    def site(self, name: str) -> None:
        """Start a site, whose way to the server is the cable."""
        around = {**self.environment, "SUPERLINK": f"127.0.0.1:{self.cable.port}"}
        self.members.start(name, [self.folder / init.SITES / name / "start.sh"], around)

    def begin(self, *words: str) -> None:
        """Start the run as an operator does."""
        script = self.folder / init.SUPERLINK / "run.sh"
        self.members.start("run", [script, *words], self.environment)

    def resume(self) -> "Popen[bytes]":
        """Go on with the run as an operator does."""
        command = [sys.executable, "-m", "polyrank", "resume", self.run]
        return self.members.start("resume", command, self.environment)

    def of(self, site: str) -> set[int]:
        """The processes of a site: SuperNode, trainer, those of messages."""
        word = f"FLWR_HOME={self.folder / init.SITES / site / 'flwr'}".encode()
        return {pid for pid in alive(self.members) if word in _read(pid, "environ").split(b"\0")}

    def named(self, program: str) -> set[int]:
        """The processes here in whose command line this word is."""
        word = program.encode()
        return {pid for pid in alive(self.members) if word in _read(pid, "cmdline")}

    def trainer(self, site: str) -> int:
        """The process that has a site's model loaded."""
        (pid,) = self.of(site) & self.named("polyrank.flower.trainer")
        return pid

    def kill(self, name: str) -> None:
        """SIGKILL for what was started by this name."""
        process = self.members.started[name]
        process.kill()
        process.wait(timeout=10)

    def kill_site(self, site: str) -> None:
        """SIGKILL for all of a site's processes, those too that are forked in the meantime."""
        os.kill(self.trainer(site), signal.SIGKILL)  # before it has come to the end of its part
        self.kill(site)

        def gone() -> bool:
            left = self.of(site)
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        until(gone, f"end of {site}'s processes", 20)

    def kept(self, site: str, round: int) -> bool:
        """Whether a site has kept what it came to in this round."""
        word = f'"{round}"'
        homes = (self.folder / init.SITES / site / "state/runs").glob("*/rounds.json")
        return any(word in path.read_text() for path in homes)

    def computed(self, site: str) -> Callable[[], float]:
        """For how many seconds the site's trainer has computed since this call."""
        pid = self.trainer(site)
        begun = _seconds(pid)
        return lambda: _seconds(pid) - begun


def full(pid: int) -> None:
    """Let the system refuse whatever this process writes to a file: EFBIG, as a quota does."""
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))


def emptied(pid: int) -> None:
    """There is room again."""
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


@contextmanager
def deployed(folder: Path, recipe: Recipe, count: int, deadline: int) -> Iterator[Deployed]:
    """A server and sites on the loopback, known to it and started; all ended with the block."""
    names, (port, *ports) = site_names(count), free_ports(count + 1)
    clients = {name: str(i) for i, name in enumerate(names)}
    own = dict(zip(names, ports, strict=True))
    plan = Plan(recipe, clients, LOOPBACK[1:], port, port, own, deadline)
    init.write(folder, plan)
    cable = Cable(port)
    try:
        with family(folder / "logs") as members:
            all_ = Deployed(folder, plan, members, cable)
            all_.superlink()
            all_.register()
            for name in names:
                all_.site(name)
            for name in names:
                log = members.log(name)
                until(lambda log=log: "SuperNode ID" in log.read_text(), f"node of {name}", 90)
            yield all_
    finally:
        cable.end()


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:  # it is gone
        return b""


def _seconds(pid: int) -> float:
    """What a process has computed."""
    user, system = _read(pid, "stat").rpartition(b")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS
