"""Every algorithm's state survives a checkpoint bit for bit, and a bad file is one clear line."""

import resource
import signal
from pathlib import Path

import pytest
import torch

from polyrank.algorithms import names
from polyrank.errors import StorageError
from polyrank.server.checkpoint import Checkpoint, load, save
from polyrank.server.loop import Federation
from tests.algorithms.federation import Federation as Trained


def checkpoint(name: str, rounds: int = 3) -> Checkpoint:
    state = Trained(name, {}, [4, 4]).later(rounds)
    head = {"classifier.weight": torch.randn(3, 5), "n/a": torch.zeros(0)}
    return Checkpoint(Federation(state, head, rounds, {"c 0": 2}), "abc", {"c 0": "name"})


def flat(value: object) -> list[object]:
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), value.shape, value.numpy().tobytes()]
    if isinstance(value, dict):
        return [x for k in sorted(value) for x in [k, *flat(value[k])]]
    if isinstance(value, tuple):
        return [x for v in value for x in flat(v)]
    fields = getattr(value, "__dataclass_fields__", None)
    return [x for f in fields for x in flat(getattr(value, f))] if fields else [value]


@pytest.mark.parametrize("rounds", [0, 3])
@pytest.mark.parametrize("name", names())
def test_a_checkpoint_comes_back_bit_for_bit(name: str, rounds: int, tmp_path: Path) -> None:
    saved = checkpoint(name, rounds)
    save(tmp_path / "c.safetensors", saved)
    back = load(tmp_path / "c.safetensors", type(saved.federation.state))
    assert type(back.federation.state) is type(saved.federation.state)
    assert flat(back) == flat(saved)


def test_a_checkpoint_of_another_algorithm_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "c.safetensors", checkpoint("replicate"))
    other = type(checkpoint("flora", 0).federation.state)
    with pytest.raises(StorageError, match="damaged or of another algorithm"):
        load(tmp_path / "c.safetensors", other)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "gone"])
def test_a_damaged_checkpoint_is_one_clear_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    saved = checkpoint("replicate")
    save(path, saved)
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": whole[:-9], "garbage": b"x" * 99, "empty": b""}[damage])
    with pytest.raises(StorageError, match=r"c\.safetensors") as raised:
        load(path, type(saved.federation.state))
    assert "\n" not in str(raised.value)


def test_a_disk_that_is_full_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    saved = checkpoint("fedhl")
    save(path, saved)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))  # the kernel refuses more
    try:
        with pytest.raises(StorageError, match=r"cannot write .*c\.safetensors: .*unharmed"):
            save(path, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_with_something_unknown_is_refused(tmp_path: Path) -> None:
    bad = Checkpoint(Federation({1, 2}, {}), "abc", {})
    with pytest.raises(TypeError, match="a state cannot hold set"):
        save(tmp_path / "c.safetensors", bad)
