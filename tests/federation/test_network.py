"""Real processes on the loopback, with TLS and node authentication: who gets in, and who does not.

What they run is the smallest Flower app: an array for each node, and its sum back.
"""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from polyrank.federation import certificates, init
from polyrank.federation.plan import Plan
from polyrank.federation.processes import Family, alive, family
from polyrank.federation.up import free_ports, listens

from .conftest import Wait

pytestmark = pytest.mark.slow
ECHO = Path(__file__).parent / "echo"


def superlink(
    written: Path, port: int, members: Family, around: dict[str, str], wait: Wait
) -> None:
    """The server, which knows all sites."""
    members.start("superlink", [written / "superlink/start.sh"], around)
    authority = written / "superlink/authority.pem"
    wait(lambda: listens(port, authority), "SuperLink")
    subprocess.run([written / "superlink/register.sh"], env=around, check=True, capture_output=True)


def online(written: Path, around: dict[str, str]) -> list[str]:
    """The states of all nodes that the server knows."""
    asked = [written / "superlink/flwr.sh", "supernode", "list", "--format", "json"]
    done = subprocess.run(asked, env=around, check=True, capture_output=True, text=True)
    nodes = json.loads(done.stdout[done.stdout.index("{") :])["nodes"]
    return sorted(node["status"] for node in nodes)


def test_three_sites_each_get_something_of_their_own(
    written: Path, plan: Plan, environment: dict[str, str], wait: Wait
) -> None:
    for part in ECHO.glob("*.py"):
        shutil.copy(part, written / "superlink/app/polyrank_federation")
    with family(written / "logs") as members:
        superlink(written, plan.inner, members, environment, wait)
        for site in plan.clients:
            members.start(site, [written / "sites" / site / "start.sh"], environment)
        script = written / "superlink/run.sh"
        done = subprocess.run(
            [script], env=environment, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, done.stdout
    assert not alive(members)
    answers = json.loads((written / "superlink/run/answers.json").read_text())
    assert set(answers) == set(plan.clients)
    assert sorted(answers.values()) == [3, 6, 9]


def test_without_the_right_key_and_authority_nobody_gets_in(
    written: Path, plan: Plan, environment: dict[str, str], wait: Wait, tmp_path: Path
) -> None:
    secret, _ = certificates.node()
    (tmp_path / "stranger.key").write_bytes(secret)
    false = tmp_path / "false.pem"
    false.write_bytes(certificates.pem(certificates.authority().certificate))
    true = written / "superlink/authority.pem"
    node = ["flower-supernode", "--superlink", f"127.0.0.1:{plan.port}", "--port"]
    key = "--auth-supernode-private-key"
    intruders = {
        "without a key": ["--root-certificates", true],
        "with a key of nobody": ["--root-certificates", true, key, tmp_path / "stranger.key"],
        "with the key of site-1": [
            "--root-certificates", true, key, written / "sites/site-1/node.key"
        ],
        "trusting another authority": [
            "--root-certificates", false, key, written / "sites/site-2/node.key"
        ],
    }  # fmt: skip
    around = {**environment, "PATH": f"{environment['POLYRANK_BIN']}:{environment['PATH']}"}
    with family(written / "logs") as members:
        superlink(written, plan.inner, members, environment, wait)
        members.start("site-1", [written / "sites/site-1/start.sh"], environment)
        wait(lambda: "online" in online(written, environment), "node of site-1")
        for port, (name, arguments) in zip(free_ports(4), intruders.items(), strict=True):
            members.start(name, [*node, str(port), *arguments], around)
        wait(lambda: members.ended().keys() >= intruders.keys(), "end of all intruders", 120)
        assert online(written, environment) == ["online", "registered", "registered"]
        assert "site-1" not in members.ended()
        said = {name: members.log(name).read_text() for name in intruders}
    for name, text in said.items():
        assert "305" in text, f"{name}: {text}"
        assert "SuperNode ID" not in text
        assert members.ended()[name] != 0
    assert "CERTIFICATE_VERIFY_FAILED" in said["trusting another authority"]


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx")
def test_through_the_door_sites_get_in_and_nobody_starts_runs(
    written: Path, plan: Plan, environment: dict[str, str], wait: Wait, tmp_path: Path
) -> None:
    (inner,) = free_ports(1)
    folder = tmp_path / "gated"
    init.write(folder, replace(plan, inner=inner))
    with family(folder / "logs") as members:
        superlink(folder, inner, members, environment, wait)
        members.start("gate", [folder / "superlink/gate.sh"], environment)
        wait(lambda: listens(plan.port, folder / "superlink/authority.pem"), "door")
        members.start("site-1", [folder / "sites/site-1/start.sh"], environment)
        wait(lambda: "online" in online(folder, environment), "node of site-1")
        flwr = folder / "superlink/flwr.sh"
        flwr.write_text(flwr.read_text().replace(f":{inner}", f":{plan.port}"))
        asked = subprocess.run([flwr, "list"], env=environment, capture_output=True, text=True)
        assert asked.returncode != 0
        assert "403" in asked.stdout + asked.stderr


def test_a_node_that_was_killed_is_back_by_itself(
    written: Path, plan: Plan, environment: dict[str, str], wait: Wait
) -> None:
    with family(written / "logs") as members:
        superlink(written, plan.inner, members, environment, wait)
        members.start("site-1", [written / "sites/site-1/start.sh"], environment)
        log = members.log("site-1")
        wait(lambda: "SuperNode ID" in log.read_text(), "node of site-1")
        nodes = {pid for pid in alive(members) if is_node(pid)}
        assert len(nodes) == 1
        for pid in nodes:
            subprocess.run(["kill", "-9", str(pid)], check=True)
        wait(lambda: log.read_text().count("SuperNode ID") == 2, "second life", 180)
        assert "SuperNode ended with code 137; again in 1 s" in log.read_text()
        assert "online" in online(written, environment)


def is_node(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return any(word.endswith(b"/flower-supernode") for word in words)
