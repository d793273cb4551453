"""What a client keeps on its own disk, when there is no room left on it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from polyrank.errors import StorageError
from polyrank.flower.ledger import Ledger


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a small disk here: {error}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_one_line_and_harms_nothing_that_was_kept(small: Path) -> None:
    ledger, kept = Ledger(small / "run"), {"a": torch.arange(10_000.0)}
    ledger.add(1, 0, kept, {})
    with pytest.raises(StorageError, match="no space left on device") as caught:
        ledger.add(2, 1, {"a": torch.ones(60_000)}, {})
    assert "\n" not in str(caught.value)
    assert str(small) in str(caught.value)
    assert ledger.at(1)[0]["a"].equal(kept["a"])
    assert not ledger.at(2)[0]

    ledger.add(2, 1, {"a": torch.ones(10_000)}, {})  # there is room again: nothing was left behind
    assert ledger.at(2)[0]["a"].sum() == 10_000
