"""What the fuzzer has found does not come back; it needs no fuzzer to see that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.app import Array, ArrayRecord

from polyrank.errors import MessageError
from polyrank.flower.arrays import taken
from tests.fuzz import finds
from tests.fuzz.finds import Find

ROOT = Path(__file__).parents[2]


def test_all_finds_and_seeds_are_read_as_they_should_be() -> None:
    """In a process of its own: here the shape checks of the tests would refuse some first."""
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.fuzz.replay"]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(finds.read()) + len(finds.read(finds.CORPUS))
    assert f"{count} inputs of" in done.stdout
    assert min(len(finds.read()), len(finds.read(finds.CORPUS))) > 0


def test_finds_come_back_as_they_were_written(tmp_path: Path) -> None:
    some = [Find("up/flora/fp32", bytes(range(256)), "ünlucky"), Find("answer/query", b"", "")]
    finds.write(tmp_path / "finds.jsonl", some)
    assert finds.read(tmp_path / "finds.jsonl") == some


START = b"\x93NUMPY\x01\x00v\x00{'descr': "
WRONG = [
    b"PK\x03\x04" + bytes(40),  # an archive, which numpy.load opens
    b"\x80\x04K\x01.",  # a pickle
    START + b"'<f4', 'fortran_order': False, 'shape': (999999999,), }\n" + bytes(8),
    START + b"'<f4', 'fortran_order': False, 'shape': (((((\n",
    START + b"'<f4', 'fortran_order': False, 'shape': (" + b"1" * 9000 + b"x\n",
    START + b"'|O', 'fortran_order': False, 'shape': (1,), }\n" + bytes(8),
    b"",
]


@pytest.mark.parametrize("data", WRONG)
def test_an_array_is_read_only_as_numpy_writes_numbers(data: bytes) -> None:
    record = ArrayRecord({"q": Array("float32", (1,), "numpy.ndarray", data)})
    with pytest.raises(MessageError, match="q"):
        taken(record, 1.0)
