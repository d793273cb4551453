"""How a state lies in memory: as a checkpoint gives it back."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from polyrank.algorithms import load
from polyrank.lora.factor import Factor, Factors
from polyrank.server import checkpoint
from polyrank.server.checkpoint import Checkpoint
from polyrank.server.layout import settled
from polyrank.server.loop import Federation
from tests.algorithms.dense import template, uploads


@dataclass(frozen=True)
class Some:
    factors: Factors
    parts: tuple[Tensor, ...]
    number: int


def test_views_get_memory_of_their_own_and_nothing_else_is_copied() -> None:
    whole = torch.arange(24.0).view(4, 6)
    plain = torch.ones(3)
    before = Some({"w": Factor(whole[:2], whole[:, :2])}, (plain, whole.T), 3)
    after = settled(before)
    f = after.factors["w"]
    assert torch.equal(f.a, whole[:2])
    assert torch.equal(f.b, whole[:, :2])
    assert all(t.is_contiguous() for t in (f.a, f.b, *after.parts))
    assert f.a.untyped_storage().nbytes() == f.a.nbytes
    assert after.parts[0] is plain
    assert after.number == 3
    assert settled(after) is after


def test_a_state_that_went_on_lies_like_one_that_was_loaded(tmp_path: Path) -> None:
    """Products of both round alike, which is what makes a resumed run the same run."""
    algorithm = load("fedhl")
    state, _ = algorithm.aggregate(algorithm.init(template(5), 0), uploads([2, 3, 5]))
    went_on = settled(Federation(state, {}))
    checkpoint.save(tmp_path / "c", Checkpoint(went_on, "", {}))
    loaded = checkpoint.load(tmp_path / "c", type(state)).federation
    pairs = zip(went_on.state.delta.values(), loaded.state.delta.values(), strict=True)
    for f, g in pairs:
        for one, other in ((f.a, g.a), (f.b, g.b)):
            assert torch.equal(one, other)
            assert one.stride() == other.stride()
            assert one.data_ptr() % 64 == other.data_ptr() % 64 == 0
