"""The memory of a training step: the estimate against what a real step allocates."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as recorded

from polyrank.client.memory import GIB, Profile, profile
from polyrank.client.model import Workbench, load, template
from polyrank.client.placing import Model, dense, place_all, trainable
from polyrank.errors import RecipeError
from polyrank.recipe.schema import Lora
from polyrank.seeds import seeded

CLASSES = ["sport", "world", "science"]
BATCH, LENGTH = 16, 64


@pytest.fixture(scope="module")
def minilm() -> Workbench:
    return load("minilm", CLASSES, Lora(), seed=0)


@pytest.fixture(scope="module")
def estimate(minilm: Workbench) -> Profile:
    return profile(minilm, BATCH, LENGTH)


def measured(bench: Workbench, ranks: Sequence[int], batch: int, length: int) -> int:
    """Bytes at the fullest moment of a step: what is there before, and all that it allocates."""
    head = dense(bench)
    place_all(bench, [Model(template(bench, r), head) for r in ranks])
    own = [[p for part in trainable(bench, client=i) for p in part] for i in range(len(ranks))]
    parameters = [p for some in own for p in some]
    optimizer = torch.optim.AdamW(parameters)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 15, (batch * len(ranks), length), generator=draw)
    mask = torch.ones_like(ids)
    mask[0, length // 2 :] = 0

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        labels = torch.zeros(len(ids), dtype=torch.int64)
        bench.net(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        for some in own:
            torch.nn.utils.clip_grad_norm_(some, 1.0)
        optimizer.step()

    bench.net.train()
    step()  # from here on the optimizer holds its moments
    optimizer.zero_grad(set_to_none=True)
    before = sum(t.nbytes for t in (*bench.net.parameters(), *bench.net.buffers()))
    before += 2 * sum(p.nbytes for p in parameters)
    with recorded(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = before
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    place_all(bench, [Model({}, head)])
    return peak


@pytest.mark.parametrize("rank", [2, 64])
def test_the_estimate_is_within_a_tenth_of_a_real_step(
    minilm: Workbench, estimate: Profile, rank: int
) -> None:
    peak = measured(minilm, [rank], BATCH, LENGTH)
    assert peak > 1.5 * sum(p.nbytes for p in minilm.net.parameters())  # activations count
    assert estimate.peak(rank) == pytest.approx(peak, rel=0.1)


def test_the_memory_of_a_unit_of_rank_is_what_it_adds_to_a_real_step(
    minilm: Workbench, estimate: Profile
) -> None:
    added = measured(minilm, [64], BATCH, LENGTH) - measured(minilm, [2], BATCH, LENGTH)
    assert 62 * estimate.slope == pytest.approx(added, rel=0.5)
    assert 62 * estimate.slope >= added  # gradients are counted as if all came at once


@pytest.mark.parametrize("ranks", [(8, 8), (2, 16, 16, 64), (4,) * 8])
def test_the_estimate_for_clients_at_once_is_within_a_tenth_too(
    minilm: Workbench, ranks: Sequence[int]
) -> None:
    estimate = profile(minilm, 4, 32)
    peak = measured(minilm, ranks, 4, 32)
    assert estimate.together(ranks) == pytest.approx(peak, rel=0.1)
    added, beside = estimate.together(ranks) - estimate.base, peak - estimate.base
    assert added == pytest.approx(beside, rel=0.2)


@pytest.mark.parametrize(("batch", "length"), [(4, 8), (8, 32)])
def test_the_estimate_fits_a_model_of_another_kind(
    gpt2_folder: Path, batch: int, length: int
) -> None:
    bench = load(str(gpt2_folder), CLASSES, Lora(targets=("c_attn", "mlp.c_proj")), seed=0)
    estimate = profile(bench, batch, length)
    assert estimate.peak(4) == pytest.approx(measured(bench, [4], batch, length), rel=0.2)


def test_longer_texts_and_larger_batches_take_more(minilm: Workbench) -> None:
    small, long, wide = (profile(minilm, *size) for size in ((2, 8), (2, 16), (4, 8)))
    assert small.fixed < long.fixed
    assert small.fixed < wide.fixed
    assert small.slope < long.slope == wide.slope


def test_each_moment_is_one_more_copy_of_what_is_trained(minilm: Workbench) -> None:
    plain, adamw = profile(minilm, 2, 8, moments=0), profile(minilm, 2, 8, moments=2)
    assert adamw.slope - plain.slope == 2 * 4 * 12 * (384 + 384)
    assert adamw.fixed - plain.fixed == 2 * 4 * 3 * (384 + 1)


def test_profiling_leaves_nothing_on_the_bench_and_draws_no_random_number(
    minilm: Workbench,
) -> None:
    before = {n: t.clone() for n, t in minilm.net.state_dict().items() if ".lora." not in n}
    with seeded(0, "test"):
        expected = torch.rand(3)
    with seeded(0, "test"):
        profile(minilm, 2, 8)
        assert torch.equal(torch.rand(3), expected)
    assert all(layer.empty for layer in minilm.layers.values())
    after = minilm.net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_the_largest_rank_is_the_last_that_fits() -> None:
    line = Profile(fixed=3 * GIB // 4, slope=GIB // 64, limit=24)
    assert line.largest(1.0, 64) == 16
    assert line.peak(16) == GIB < line.peak(17)
    assert line.largest(1 - 2**-30, 64) == 15
    assert line.largest(8.0, 64) == 24  # the layers' limit
    assert line.largest(8.0, 10) == 10  # what is asked for


def test_a_memory_below_rank_one_names_the_smallest_that_works(estimate: Profile) -> None:
    with pytest.raises(RecipeError) as caught:
        estimate.largest(0.1, 64)
    words = "lora.ranks.gib: 0.1 GiB is too little for rank 1; the smallest that works is "
    assert str(caught.value).startswith(words)
    smallest = float(str(caught.value).removeprefix(words).removesuffix(" GiB"))
    assert estimate.largest(smallest, 1) == 1
    with pytest.raises(RecipeError):
        estimate.largest(smallest - 0.001, 1)
