"""All finds, seeds and a small corpus again, without a fuzzer: `python -m tests.fuzz.replay`."""

import sys
import traceback

from tests.fuzz import finds
from tests.fuzz.targets import targets


def main() -> int:
    """Tries them all; returns how many still do what they must not."""
    known, wrong = targets(), 0
    tried = [*finds.read(), *finds.read(finds.CORPUS)]
    for name, data, problem in tried:
        try:
            known[name].check(data)
        except Exception:
            wrong += 1
            sys.stdout.write(f"{name}: {problem}\n{traceback.format_exc()}\n")
    sys.stdout.write(f"{len(tried)} inputs of {len(known)} readers, {wrong} still there\n")
    return wrong


if __name__ == "__main__":
    sys.exit(min(1, main()))
