"""Private client state: stored once, read back exactly, dropped when nobody refers to it."""

from pathlib import Path

import pytest
import torch

from polyrank.engine import store
from polyrank.errors import StorageError


def test_equal_states_share_a_file_and_come_back_exactly(tmp_path: Path) -> None:
    one, same = {"q": torch.randn(3, 4)}, {}
    same = {"q": one["q"].clone()}
    names = {store.put(tmp_path, one), store.put(tmp_path, same)}
    assert len(names) == len(list(tmp_path.iterdir())) == 1
    assert torch.equal(store.get(tmp_path, names.pop())["q"], one["q"])


def test_what_nobody_refers_to_is_deleted(tmp_path: Path) -> None:
    names = [store.put(tmp_path, {"q": torch.full((2,), float(i))}) for i in range(3)]
    store.keep_only(tmp_path, names[1:2])
    assert float(store.get(tmp_path, names[1])["q"][0]) == 1.0
    with pytest.raises(StorageError, match="cannot be read"):
        store.get(tmp_path, names[0])


def test_a_damaged_state_is_noticed(tmp_path: Path) -> None:
    name = store.put(tmp_path, {"q": torch.zeros(4)})
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(StorageError, match="damaged"):
        store.get(tmp_path, name)
