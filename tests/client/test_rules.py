"""What a download may ask of the training: a pull, a cut, a choice, one side, a core."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import polyrank
from polyrank.client.fit import fit
from polyrank.client.job import Share, Task, job
from polyrank.client.private import added
from polyrank.client.rules import chosen, leading, proximal, pruned, tail
from polyrank.experiment.setup import Setup, prepare
from polyrank.lora.factor import Factor
from polyrank.lora.update import dense
from polyrank.messages import Client, Download, Prune
from polyrank.recipe.schema import Local, Lora


def factor(rank: int, seed: int = 0, scale: float = 1.0) -> Factor:
    rng = torch.Generator().manual_seed(seed)
    return Factor(torch.randn(rank, 5, generator=rng), torch.randn(6, rank, generator=rng), scale)


def test_the_proximal_term_by_hand() -> None:
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])
    starts = [torch.zeros(2), torch.tensor([[1.0]])]
    assert float(proximal([x, y], starts, mu=0.5)) == pytest.approx(0.25 * (1 + 4 + 4))


def test_the_tail_is_what_a_cut_takes_away() -> None:
    prune = Prune(keep=0.5, penalty=1.0)
    f = factor(4, scale=3.0)
    expected = 3 * float(f.b[:, 2:].norm() * f.a[2:].norm())
    assert float(tail([f, factor(1)], prune)) == pytest.approx(expected)
    assert [leading(r, prune) for r in (1, 2, 5)] == [1, 1, 2]


def test_a_fresh_tail_has_gradients_and_no_nan() -> None:
    a, b = torch.randn(4, 5), torch.zeros(6, 4)
    for t in (a, b):
        t.requires_grad_(True)
    tail([Factor(a, b)], Prune(0.5, 1.0)).backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()


def test_a_client_is_cut_only_where_its_tail_shrank() -> None:
    prune, start = Prune(0.5, 1.0), {"w": factor(4)}
    smaller = {"w": Factor(start["w"].a, 0.9 * start["w"].b)}
    assert pruned(start, smaller, prune)["w"].rank == 2
    larger = {"w": Factor(start["w"].a, 1.1 * start["w"].b)}
    assert pruned(start, larger, prune)["w"].rank == 4


def test_the_chosen_slots_are_those_with_the_largest_pull() -> None:
    factors = {"q": factor(3, 1), "v": factor(3, 2)}
    pull = {
        "q": Factor(torch.zeros(3, 5), torch.tensor([[0.0, 9.0, 0.1]]).repeat(6, 1)),
        "v": Factor(torch.zeros(3, 5), torch.tensor([[5.0, 0.0, 0.2]]).repeat(6, 1)),
    }
    assert chosen(factors, pull, 2) == {"q": (1,), "v": (0,)}
    assert chosen(factors, pull, 99) == {"q": (0, 1, 2), "v": (0, 1, 2)}


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory, corpus: Path, gpt2_folder: Path) -> Setup:
    return prepare(
        polyrank.Recipe(
            model=str(gpt2_folder),
            data={"path": str(corpus), "clients": 2, "max_length": 16},
            lora={"targets": ["c_attn"], "ranks": 4},
        )
    )


def trained(setup: Setup, download: Download, **local: object) -> tuple[dict, object]:
    task = Task(Lora(), Local(steps=3, batch=8, lr=0.05, **local), 1, 1, 0)
    share = Share(setup.train, setup.parts["0"])
    return fit(setup.bench, task, [job(share, Client("0", 4), download, {})])[0]


def starts(setup: Setup, rank: int = 4) -> dict[str, Factor]:
    rng = torch.Generator().manual_seed(3)
    return {
        n: Factor(torch.randn(rank, w, generator=rng) / 4, torch.randn(o, rank, generator=rng) / 4)
        for n, (o, w) in {n: x.shape for n, x in setup.bench.layers.items()}.items()
    }


def test_one_side_is_trained_and_only_that_comes_back(setup: Setup) -> None:
    start = starts(setup)
    for side, other in (("a", "b"), ("b", "a")):
        _, upload = trained(setup, Download(start=start, dense=setup.dense, train=side))
        for name, f in upload.factors.items():
            assert getattr(f, other).numel() == 0
            assert not torch.equal(getattr(f, side), getattr(start[name], side))


def test_what_is_kept_is_what_was_trained(setup: Setup) -> None:
    download = Download(start=starts(setup), dense=setup.dense, send="a", keep="b", version=1)
    private, upload = trained(setup, download)
    assert {k.split("/")[0] for k in private} == {"b", "version"}
    for name, f in upload.factors.items():
        assert f.b.numel() == 0
        assert not torch.equal(private[f"b/{name}"], download.start[name].b)


def test_a_core_is_trained_between_frozen_sides(setup: Setup) -> None:
    start = starts(setup)
    cores = {n: torch.eye(4) for n in start}
    download = Download(start=start, core=cores, dense=setup.dense, train="core", keep="ab")
    private, upload = trained(setup, download)
    for name, f in upload.factors.items():
        assert f.a.shape == (4, 4)
        assert not torch.equal(f.a, torch.eye(4))
        assert torch.equal(private[f"a/{name}"], start[name].a)
        torch.testing.assert_close(private[f"b/{name}"], start[name].b)


def test_a_core_of_ones_is_the_factor_itself(setup: Setup) -> None:
    """W0 + B I A gives the loss of W0 + B A: one step of rate 0 reports it."""
    start = starts(setup)
    cores = {n: torch.eye(4) for n in start}
    told = []
    for download in (
        Download(start=start, dense=setup.dense),
        Download(start=start, core=cores, dense=setup.dense, train="core"),
    ):
        task = Task(Lora(), Local(steps=1, lr=1e-9), 1, 1, 0)
        share = Share(setup.train, setup.parts["0"])
        told.append(
            fit(setup.bench, task, [job(share, Client("0", 4), download, {})])[0][1].metrics
        )
    assert told[0]["loss"] == pytest.approx(told[1]["loss"], rel=1e-6)


def test_slots_that_are_not_chosen_are_frozen_but_not_forgotten(setup: Setup) -> None:
    start = starts(setup)
    download = Download(start=start, dense=setup.dense, train="b", select=1)
    _, upload = trained(setup, download)
    assert sum(map(len, upload.slots.values())) == len(start)
    assert sum(f.rank for f in upload.factors.values()) == len(start)
    whole = Download(start=start, dense=setup.dense)
    losses = []
    for one in (download, whole):
        task = Task(Lora(), Local(steps=1, lr=1e-9), 1, 1, 0)
        share = Share(setup.train, setup.parts["0"])
        losses.append(
            fit(setup.bench, task, [job(share, Client("0", 4), one, {})])[0][1].metrics["loss"]
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_proximal_term_keeps_the_client_near_its_start(setup: Setup) -> None:
    def apart(mu: float) -> float:
        start = starts(setup)
        _, upload = trained(setup, Download(start=start, dense=setup.dense), prox=mu)
        return sum(float((f.a - start[n].a).norm()) for n, f in upload.factors.items())

    assert apart(100.0) < 0.8 * apart(0.0)


def test_pruning_shrinks_the_rank_of_the_upload(setup: Setup) -> None:
    download = Download(start=starts(setup), dense=setup.dense, prune=Prune(0.5, 10.0))
    _, upload = trained(setup, download)
    assert {f.rank for f in upload.factors.values()} == {2}


def test_a_diverged_client_keeps_what_it_had(setup: Setup) -> None:
    broken = {n: Factor(f.a * torch.nan, f.b) for n, f in starts(setup).items()}
    download = Download(start=broken, dense=setup.dense, keep="b", version=1)
    before = {"b/x": torch.ones(1)}
    task = Task(Lora(), Local(steps=1), 1, 1, 0)
    share = Share(setup.train, setup.parts["0"])
    private, _ = fit(setup.bench, task, [job(share, Client("0", 4), download, before)])[0]
    assert private == before


def test_validation_is_measured_before_and_after(setup: Setup) -> None:
    share = Share(setup.train, setup.parts["0"][:-9], setup.parts["0"][-9:])
    task = Task(Lora(), Local(steps=6, batch=8, lr=0.05), 1, 1, 0)
    download = Download(start=starts(setup), dense=setup.dense)
    _, upload = fit(setup.bench, task, [job(share, Client("0", 4), download, {})])[0]
    assert upload.metrics["val_loss"] < upload.metrics["start_val_loss"]
    assert 0 <= upload.metrics["val_accuracy"] <= 1
    assert upload.examples == len(share.train)


def test_added_updates_do_not_change_their_inputs() -> None:
    base = {"w": torch.ones(6, 5)}
    both = added(base, {"w": factor(2), "v": factor(1)})
    torch.testing.assert_close(dense(both["w"]), base["w"] + factor(2).delta)
    assert torch.equal(base["w"], torch.ones(6, 5))
    assert replace(factor(2)).rank == 2
