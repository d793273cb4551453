"""Federations to test with."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from polyrank.federation import init
from polyrank.federation.plan import Plan, first_clients, site_names
from polyrank.federation.up import free_ports
from polyrank.recipe import Recipe, load

Wait = Callable[..., None]


@pytest.fixture
def demo() -> Recipe:
    return load.load("demo").recipe


@pytest.fixture
def plan(demo: Recipe) -> Plan:
    """Three sites of the demo on free ports of the loopback."""
    names, (port, *ports) = site_names(3), free_ports(4)
    clients, own = first_clients(demo, names), dict(zip(names, ports, strict=True))
    return Plan(demo, clients, ("127.0.0.1",), port, port, own)


@pytest.fixture
def written(tmp_path: Path, plan: Plan) -> Path:
    folder = tmp_path / "federation"
    init.write(folder, plan)
    return folder


@pytest.fixture
def environment() -> dict[str, str]:
    """In which the scripts find Flower."""
    direct = {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    return {**os.environ, **direct, "POLYRANK_BIN": str(Path(sys.executable).parent)}


@pytest.fixture
def wait() -> Wait:
    """Wait until something holds; fail with what was awaited if it does not."""

    def until(done: Callable[[], object], what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"no {what} after {seconds} s"
            time.sleep(0.2)

    return until
