"""Run or resume a run folder again and again, each time killed after a random time, until it ends.

Usage: killer.py RECIPE FOLDER SEED; prints how many times it was killed, and how many of those in
the middle: with a checkpoint and not yet an adapter. The children are forked before torch starts
any thread, so that a kill costs no new import.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import polyrank
from polyrank.experiment.folder import create
from polyrank.experiment.single import go


def child(recipe: Path, folder: Path) -> None:
    if folder.exists():
        polyrank.resume(folder)
    else:
        made = polyrank.load_recipe(recipe)
        go(made, made.algorithm.name, create(folder, made))


def lines(folder: Path) -> int:
    records = folder / "records.jsonl"
    return records.read_bytes().count(b"\n") if records.exists() else 0


def main() -> None:
    recipe, folder, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    rng, kills, midway, longest = random.Random(seed), 0, 0, 2.0
    while kills < 40:
        pid = os.fork()
        if pid == 0:
            child(recipe, folder)
            os._exit(0)
        # Every other time at a random moment; else just after a round's record, around its
        # checkpoint (two lines come before the first round's).
        target = None if kills % 2 else max(lines(folder), 2) + rng.randint(1, 2)
        deadline = time.monotonic() + rng.uniform(0.2, longest)
        while lines(folder) < target if target else time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                if status:
                    sys.exit(f"the child failed with status {status}")
                print(kills, midway)
                return
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02) if target else 0)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        midway += (folder / "checkpoint.safetensors").exists() and not (folder / "adapter").exists()
        kills, longest = kills + 1, longest * 1.1  # a slow machine gets there too
    sys.exit("it never came to its end")


main()
