"""Flower's program for a message, by a process that has its imports done: real ones, no network."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyrank.flower import alone, knock, resident, warm


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / ("a-long-name-" * 12) / "site 0"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    """What stands for Flower's own program."""
    program = tmp_path / "cold" / warm.PROGRAM
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "cold $@ in $PWD"\n')
    program.chmod(0o700)
    return program


@pytest.fixture
def node() -> Iterator[subprocess.Popen[bytes]]:
    """What stands for the node: its end is the warm process's."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield process
    process.kill()
    process.wait()


def called(home: Path, cold: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-IS", knock.__file__, str(home), "a.sock", str(cold), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cold.parent)


def test_where_nobody_listens_it_is_the_program_itself(home: Path, cold: Path) -> None:
    assert called(home, cold, "--token", "a b").communicate()[0] == (
        f"cold --token a b in {cold.parent}\n"
    )
    resident.listener(home, "a.sock").close()  # one that has ended
    assert called(home, cold, "x").communicate()[0].startswith("cold x")


def test_who_listens_gets_its_words_and_its_output(home: Path, cold: Path) -> None:
    with resident.listener(home, "a.sock") as listening:
        process = called(home, cold, "--token", "ä b")
        connection, _ = listening.accept()
        with connection:
            call = warm._call(connection)
            assert call is not None
            assert call.words == [str(cold), "--token", "ä b"]
            os.write(call.files[0], b"from elsewhere\n")
            for file in call.files:
                os.close(file)
            connection.sendall(b"1")
    assert process.communicate()[0] == "from elsewhere\n"
    assert process.returncode == 0


def test_one_that_goes_away_without_a_word_is_replaced(home: Path, cold: Path) -> None:
    with resident.listener(home, "a.sock") as listening:
        process = called(home, cold, "x")
        listening.accept()[0].close()
        assert process.communicate()[0].startswith("cold x")


def test_a_warm_process_does_flowers_own_and_ends_with_its_node(
    home: Path, cold: Path, node: subprocess.Popen[bytes]
) -> None:
    program = home / "bin" / warm.PROGRAM
    path = os.pathsep.join([str(program.parent), str(cold.parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    command = [sys.executable, "-m", "polyrank.flower.warm", str(home)]
    process = subprocess.Popen([*command, str(node.pid)], env=environment)
    while not program.exists():
        assert process.poll() is None
        time.sleep(0.05)
    again = subprocess.run([*command, str(node.pid)], env=environment, timeout=60)
    assert again.returncode == 0  # a site has one
    assert "--runtime-api-address" in _output([program, "--help"])
    assert "--token --token-file is required" in _output([program])
    assert process.poll() is None
    node.kill()
    node.wait()
    assert process.wait(20) == 0
    assert _output([program, "--help"]).startswith("cold --help")


def _output(command: list[str | Path]) -> str:
    """Until all that write to it are done: the program itself hands over and ends."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return done.stdout


def test_it_is_started_only_where_the_path_asks_for_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(resident, "start", lambda module, *_: started.append(module))
    warm.begin(home)
    assert started == []
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    warm.begin(home)
    assert started == ["polyrank.flower.warm"]
    monkeypatch.setenv(resident.NODE, "1")  # by one that is already there
    warm.begin(home)
    assert len(started) == 1


def test_a_listener_is_the_only_one(home: Path) -> None:
    held = alone.lock(home / "a.lock")
    assert held is not None
    assert alone.lock(home / "a.lock") is None
    assert alone.locked(home / "a.lock")
    held.close()
    assert not alone.locked(home / "a.lock")
    assert resident.connected(home, "a.sock") is None
    with resident.listener(home, "a.sock"):
        connection = resident.connected(home, "a.sock")
        assert isinstance(connection, socket.socket)
        connection.close()
