"""What a process keeps of the memory that it frees."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from polyrank.client import heap

STEP = """
import json, sys, torch
from polyrank.client import heap

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

kept = sys.argv[1] == "keep" and heap.keep()
before = resident()
some = [torch.empty(2**22).fill_(1) for _ in range(20)]  # 16 MiB each
most = resident() - before
some.clear()
print(json.dumps([kept, most, resident() - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="not Linux")
def test_freed_memory_stays_with_a_process_that_keeps_it() -> None:
    shares = {}
    for how in ("keep", "give"):
        ran = subprocess.run(
            [sys.executable, "-c", STEP, how], capture_output=True, text=True, check=True
        )
        kept, most, left = json.loads(ran.stdout)
        if how == "keep" and not kept:
            pytest.skip("the C library has no such setting")
        assert most > 300e6
        shares[how] = left / most
    assert shares["keep"] > 0.9
    assert shares["give"] < 0.5


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not heap.keep()
