"""Run or resume a run folder again and again, each time killed after a random time, until it ends.

Usage: killer.py RECIPE FOLDER SEED; prints how many times it was killed. The children are forked
before torch starts any thread, so that a kill costs no new import.
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


def main() -> None:
    recipe, folder, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    rng, kills, moment = random.Random(seed), 0, 2.0
    for _ in range(60):
        pid = os.fork()
        if pid == 0:
            child(recipe, folder)
            os._exit(0)
        deadline = time.monotonic() + rng.uniform(0.2, moment)
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                if status:
                    sys.exit(f"the child failed with status {status}")
                print(kills)
                return
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills, moment = kills + 1, moment * 1.15  # a slow machine gets there too
    sys.exit("it never came to its end")


main()
