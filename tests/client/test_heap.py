"""What a process keeps of the memory that it frees."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from polyrank.client import heap

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        some = [torch.empty(2**22).fill_(1) for _ in range(6)]  # 100 MB, in blocks of 16
        del some
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
apart = faults()
if heap.keep():
    faults()
    print(apart, faults())
"""


def test_freed_memory_is_there_for_the_next_step() -> None:
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    if not ran.stdout:
        pytest.skip("the C library has no such setting")
    before, after = map(int, ran.stdout.split())
    assert after < 1000  # of 4 KiB; all of it would be half a million
    assert before > 10 * after


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    from polyrank.client import heap

    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not heap.keep()
