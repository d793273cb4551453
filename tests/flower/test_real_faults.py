"""Faults by signals, on a real federation with TLS and node authentication: one run that survives
all of them, and ends with the bits of the simulator in which the same clients answered."""

import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from os import kill
from pathlib import Path
from time import sleep

import pytest

import polyrank
from polyrank.experiment import running
from polyrank.experiment.folder import create
from polyrank.experiment.run import Run
from polyrank.experiment.setup import Setup
from polyrank.experiment.single import go
from polyrank.federation.status import STOPPED, view
from polyrank.messages import Client, Download
from polyrank.recipe import Recipe
from polyrank.server.loop import Reply
from tests.flower.faults import Deployed, deployed, emptied, full, until
from tests.flower.test_same_bits import bits, traffic

pytestmark = pytest.mark.slow
SHORT, LONG = 45, 120  # seconds for a round
OWN = [
    "algorithm=flora", "data.clients=3", "lora.ranks=[1,4,8]", "rounds=4", "engine.group=1",
    "local.steps=300",
]  # fmt: skip


def simulated(made: Recipe, folder: Path, missing: Mapping[int, set[str]]) -> Path:
    """The run in this process, in which these clients do not answer in these rounds."""

    def begin(recipe: Recipe, setup: Setup, private: Path) -> Run:
        run = running.begin(recipe, setup, private)

        def exchange(round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
            for client, download in sent:
                if client.id in missing.get(round, ()):
                    yield Reply(client, None, "does not answer")
                else:
                    yield from run.exchange(round, [(client, download)])

        return replace(run, exchange=exchange)

    go(made, made.algorithm.name, create(folder, made), begin=begin)
    return folder


def left_out(there: Deployed, round: int) -> dict[str, str]:
    return {c["id"]: c["reason"] for c in there.records.rounds[round]["left_out"]}


def test_one_run_survives_them_all(recipe: Path, tmp_path: Path) -> None:
    made = polyrank.load_recipe(recipe, OWN)
    with deployed(tmp_path / "fed", made, 3, LONG) as there:
        there.begin("min-nodes=2", f"deadline={SHORT}")
        a_node_is_killed_and_another_is_stopped(there)
        the_program_of_the_run_is_killed(there)
        there.site("site-1")
        resumed = there.resume()
        until(lambda: there.done == 2, "round 2 from the resumed run", 150)
        assert left_out(there, 2) == {}
        a_disk_is_full_and_the_network_is_cut(there)
        the_server_is_killed(there)
        assert resumed.wait(timeout=60) == 2
        assert "has not come to its end" in there.members.log("resume").read_text()
        there.superlink()
        assert there.resume().wait(timeout=200) == 0
        assert left_out(there, 4) == {}
        assert view(there.run).complete
    missing = {1: {"0", "1"}, 3: {"2"}}
    here = simulated(made, tmp_path / "here", missing)
    assert bits(there.run) == bits(here)
    assert traffic(there.run) == traffic(here)


def a_node_is_killed_and_another_is_stopped(there: Deployed) -> None:
    """In mid-training, both; the round goes on with the third."""
    until(lambda: there.run.joinpath("records.jsonl").exists(), "begun run", 240)
    straggler = there.trainer("site-2")
    faults = {
        "site-1": lambda: there.kill_site("site-1"),
        "site-2": lambda: kill(straggler, signal.SIGSTOP),
    }
    computed = {site: there.computed(site) for site in faults}

    def struck() -> bool:
        for site in [s for s in faults if computed[s]() > 0.3]:
            faults.pop(site)()
        return not faults

    until(struck, "training at both", 60)
    assert not there.of("site-1")
    assert not there.kept("site-1", 1)
    assert not there.kept("site-2", 1)
    until(lambda: there.done == 1, "round 1 without two of three", 2 * SHORT)
    late = f"no answer within {SHORT} s"
    missing = left_out(there, 1)
    assert missing.keys() == {"0", "1"}
    assert missing["0"] == late or "Node Unavailable" in missing["0"]  # its lease may end first
    assert missing["1"] == late
    kill(straggler, signal.SIGCONT)


def the_program_of_the_run_is_killed(there: Deployed) -> None:
    """In mid-round, when nodes have done their part, the straggler too: it is back."""
    until(lambda: there.kept("site-2", 2), "round 2 at the straggler", SHORT)
    (program,) = there.named("flwr-serverapp")
    assert view(there.run).state == "running"
    kill(program, signal.SIGKILL)
    until(lambda: view(there.run).state == STOPPED, "word that nobody goes on", 10)
    assert there.done == 1


def a_disk_is_full_and_the_network_is_cut(there: Deployed) -> None:
    """In one round: the one is told by name, the other costs nothing but time."""
    full(there.trainer("site-3"))
    until(lambda: there.kept("site-2", 3), "round 3 at a site", 60)
    before = there.cable.passed
    assert before > 0
    there.cable.cut()
    sleep(20)
    assert there.done == 2
    there.cable.mend()
    until(lambda: there.done == 3, "round 3 after the cut", LONG)
    emptied(there.trainer("site-3"))
    assert there.cable.passed > before
    ((id, reason),) = left_out(there, 3).items()
    assert id == "2"
    assert reason.startswith("cannot write /")
    assert reason.endswith(": file too large; what was there before is unharmed")


def the_server_is_killed(there: Deployed) -> None:
    """In mid-round; its program ends by itself."""
    until(lambda: there.kept("site-2", 4), "round 4 at a site", 60)
    there.kill("superlink")
    until(lambda: view(there.run).state == STOPPED, "end of its program", 30)
    until(lambda: not there.named("flwr-serverapp"), "last of its program", 10)
    assert there.done == 3
