"""Clients that train at once on one base: each as if it were alone."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, DistilBertConfig, DistilBertModel

import polyrank
from polyrank.client.fit import fit
from polyrank.client.group import Step, group_size
from polyrank.client.job import Job, Share, Task, job, together
from polyrank.client.memory import profile
from polyrank.client.model import TOLERANCE, Workbench, template
from polyrank.client.placing import Model, dense, place_all, seat, take
from polyrank.client.score import score, scores
from polyrank.data.batches import PASS, Batch, alike, in_order, merged
from polyrank.errors import RecipeError
from polyrank.experiment.setup import Setup, prepare
from polyrank.lora.factor import Factor
from polyrank.messages import Client, Download, Prune
from polyrank.recipe.schema import Local, Lora

SIZES = (40, 9, 23, 17)  # examples of each client
RANKS = (2, 1, 4, 2)


@pytest.fixture(scope="module")
def distilbert_folder(gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DistilBERT without dropout, whose head has two linear layers."""
    folder = tmp_path_factory.mktemp("models") / "tiny-distilbert"
    sizes = {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}
    quiet = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    torch.manual_seed(0)
    words = AutoConfig.from_pretrained(gpt2_folder).vocab_size
    DistilBertModel(DistilBertConfig(vocab_size=words, **sizes, **quiet)).save_pretrained(folder)
    for file in gpt2_folder.glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope="module", params=["gpt2_folder", "distilbert_folder"])
def setup(request: pytest.FixtureRequest, corpus: Path) -> Setup:
    targets = ["c_attn"] if request.param == "gpt2_folder" else ["q_lin", "ffn.lin1"]
    return prepare(
        polyrank.Recipe(
            model=str(request.getfixturevalue(request.param)),
            data={"path": str(corpus), "clients": 1, "max_length": 16},
            lora={"targets": targets, "ranks": 4},
        )
    )


def quiet(bench: Workbench) -> None:
    """Without dropout, whose draws differ."""
    for module in bench.net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def factors(bench: Workbench, rank: int, seed: int) -> dict[str, Factor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        n: Factor(*(torch.randn(t.shape, generator=draw) / 4 for t in (f.a, f.b)), 0.5)
        for n, f in template(bench, rank).items()
    }


def jobs_of(setup: Setup, **ask: object) -> list[Job]:
    mine, jobs = setup.parts["0"], []
    for i, (count, rank) in enumerate(zip(SIZES, RANKS, strict=True)):
        share = Share(setup.train, mine[10 * i : 10 * i + count], mine[: 5 * i])
        download = Download(start=factors(setup.bench, rank, i), dense=setup.dense, **ask)
        jobs.append(job(share, Client(str(i), rank), download, {}))
    return jobs


def ends(setup: Setup, local: Local, groups: Sequence[Sequence[Job]]) -> dict[str, dict]:
    task = Task(Lora(scale=2.0), local, 1, 4, 0)
    found = {}
    for some in groups:
        for one, (_, upload) in zip(some, fit(setup.bench, task, some), strict=True):
            tensors = {f"{n}/{s}": getattr(f, s) for n, f in upload.factors.items() for s in "ab"}
            metrics = {k: torch.tensor(v) for k, v in upload.metrics.items()}
            found[one.client.id] = {**tensors, **upload.dense, **metrics}
    return found


@pytest.mark.parametrize(
    ("local", "ask"),
    [
        ({"optimizer": "adamw", "clip": 0.5, "weight_decay": 0.1}, {}),
        ({"optimizer": "sgd", "momentum": 0.9, "clip": None}, {"train": "b"}),
        ({"prox": 0.5, "steps": 3}, {"prune": Prune(0.5, 0.1)}),
        ({"schedule": "cosine", "head_lr": 1e-2}, {"keep": "a", "version": 3}),
    ],
)
def test_clients_at_once_end_as_clients_alone(setup: Setup, local: dict, ask: dict) -> None:
    quiet(setup.bench)
    how = Local(**{"batch": 8, "epochs": 2, "lr": 1e-2, **local})
    jobs = jobs_of(setup, **ask)
    (places,) = together(jobs)
    assert [RANKS[i] for i in places] == sorted(RANKS)
    at_once = ends(setup, how, [[jobs[i] for i in places]])
    alone = ends(setup, how, [[one] for one in jobs])
    assert at_once["1"]["steps"] == (3 if "steps" in local else 4)
    for id, wanted in alone.items():
        assert at_once[id].keys() == wanted.keys()
        for name, t in wanted.items():
            torch.testing.assert_close(at_once[id][name], t, rtol=1e-3, atol=2e-5)
    again = ends(setup, how, [[jobs[i] for i in places]])
    assert all(torch.equal(t, again[id][n]) for id, own in at_once.items() for n, t in own.items())


def test_passes_of_similar_length_change_no_result(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(setup.bench)
    how, jobs = Local(batch=2, epochs=1, lr=1e-2, prox=0.1), jobs_of(setup)
    found = []
    for size in (0, 10**9):  # one pass for each length, and one for all
        monkeypatch.setattr("polyrank.data.batches.PASS", size)
        found.append(ends(setup, how, [[jobs[i] for i in next(together(jobs))]]))
    for id, wanted in found[0].items():
        for name, t in wanted.items():
            torch.testing.assert_close(found[1][id][name], t, rtol=1e-3, atol=2e-5)


def test_cores_are_trained_at_once_too(setup: Setup) -> None:
    quiet(setup.bench)
    jobs = jobs_of(setup)
    for i, one in enumerate(jobs):
        core = {n: torch.eye(RANKS[i]) for n in one.download.start}
        jobs[i] = one._replace(download=replace(one.download, core=core, train="core"))
    how = Local(batch=8, steps=3, lr=1e-2)
    at_once = ends(setup, how, [[jobs[i] for i in next(together(jobs))]])
    for id, wanted in ends(setup, how, [[one] for one in jobs]).items():
        for name, t in wanted.items():
            torch.testing.assert_close(at_once[id][name], t, rtol=1e-3, atol=2e-5)


def test_only_clients_of_one_base_and_task_train_at_once(setup: Setup) -> None:
    jobs = jobs_of(setup)
    folded = replace(jobs[0].download, fold=factors(setup.bench, 1, 9), version=1)
    half = replace(jobs[1].download, train="b")
    picky = replace(jobs[2].download, select=1)
    jobs += [
        job(one.share, one.client, download, {})
        for one, download in zip(jobs[:3], (folded, half, picky), strict=True)
    ]
    found = [sorted(places) for places in together(jobs)]
    assert sorted(found) == [[0, 1, 2, 3], [4], [5], [6]]
    assert [sorted(p) for p in together([jobs[4], jobs[4]._replace(client=Client("x", 9))])] == [
        [0, 1]
    ]


def test_several_models_are_scored_as_each_alone(setup: Setup) -> None:
    models = [Model(factors(setup.bench, r, r), setup.dense, 1.0) for r in (1, 2, 2, 3)]
    own = [list(range(start, 30)) for start in (0, 7, 13)] + [[]]
    place_all(setup.bench, models)
    found = scores(setup.bench, setup.test, 8, own)
    assert found[3] is None
    for i, indices in enumerate(own[:3]):
        seat(setup.bench, [i])
        wanted = score(setup.bench, setup.test, 8, indices)
        assert found[i].accuracy == wanted.accuracy
        assert found[i].loss == pytest.approx(wanted.loss, rel=1e-5)
        place_all(setup.bench, [models[i]])
        assert score(setup.bench, setup.test, 8, indices) == wanted
        place_all(setup.bench, models)


def test_a_head_of_ones_own_is_taken_back(setup: Setup) -> None:
    heads = [{n: t + i for n, t in setup.dense.items()} for i in range(3)]
    before = dense(setup.bench)
    place_all(setup.bench, [Model({}, head) for head in heads])
    for i, head in enumerate(heads):
        assert all(torch.equal(t, head[n]) for n, t in take(setup.bench, i)[1].items())
    assert all(torch.equal(t, before[n]) for n, t in dense(setup.bench).items())
    place_all(setup.bench, [Model({}, heads[2])])
    assert all(torch.equal(t, heads[2][n]) for n, t in dense(setup.bench).items())
    place_all(setup.bench, [Model({}, setup.dense)])


def test_merged_batches_keep_every_row_and_say_which_are_filled_up(setup: Setup) -> None:
    parts = list(in_order(setup.test, 8, torch.arange(13)))
    both, real = merged(parts, setup.test.pad)
    assert real.sum(dim=1).tolist() == [8, 5]
    kept = real.flatten() > 0
    assert both.indices[kept].tolist() == [i for b in parts for i in b.indices.tolist()]
    assert both.attention_mask[kept].sum() == sum(b.attention_mask.sum() for b in parts)


def test_the_size_of_a_group(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def size(asked: object, step: int) -> int:
        return group_size(setup.bench, setup.train, asked, Step(step, 1), [2] * 40)

    assert [size(*x) for x in ((1, 4), (7, 4), ("auto", 512), ("auto", 8192))] == [1, 7, 8, 1]
    head = dense(setup.bench)
    assert size("auto", 1) == 32
    assert all(torch.equal(t, head[n]) for n, t in dense(setup.bench).items())
    kept = dict(setup.bench.heads)
    setup.bench.heads.clear()
    assert size("auto", 1) == 1
    with pytest.raises(RecipeError, match=r"engine\.group: 4: \S+ of the head .*; use 1"):
        size(4, 1)
    setup.bench.heads.update(kept)
    monkeypatch.setitem(TOLERANCE, torch.float32, 0.0)
    with pytest.raises(RecipeError, match=r"logits differ by .*; use 1"):
        size(4, 1)


def test_auto_takes_no_more_than_fits_the_free_memory(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks, step = [1, 4, 2, 4, 1, 4], Step(8, 16)
    needs = profile(setup.bench, *step)
    for wanted, room in ((1, 0), (3, 2 * (needs.together([4, 4, 4]) - needs.base)), (6, None)):
        monkeypatch.setattr("polyrank.client.group.free", lambda device, room=room: room)
        assert group_size(setup.bench, setup.train, "auto", step, ranks) == wanted


def test_why_clients_could_not_train_at_once_is_told(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lean(bench: Workbench, task: Task, jobs: Sequence[Job]) -> object:
        if len(jobs) > 1:
            raise RuntimeError("not enough memory\nfor all")
        return fit(bench, task, jobs)

    monkeypatch.setattr("polyrank.engine.simulate.fit", lean)
    told = []
    run = polyrank.run(polyrank.load_recipe(recipe, ["rounds=1"]), watch=told.append)
    (done,) = (r for r in run.records.rounds if r["round"] == 1)
    assert [c["alone"] for c in done["clients"]] == ["not enough memory"] * 4
    assert not done["left_out"]


@pytest.mark.parametrize("name", ["replicate", "flora", "catchup", "fedsa-lora", "lora-a2"])
def test_a_run_in_groups_is_the_run_one_by_one(
    recipe: Path, distilbert_folder: Path, name: str
) -> None:
    how = [
        f"model={distilbert_folder}",
        "lora.targets=[q_lin]",
        f"algorithm={name}",
        "rounds=3",
        "participation=1.0",
        "local.optimizer=sgd",
    ]
    told = []
    for group in ("1", "auto"):
        own = [*how, f"engine.group={group}", f"name={name}-{group}"]
        told.append(polyrank.run(polyrank.load_recipe(recipe, own)).records)
    one, other = told
    # losses are among what travels, and their digits
    assert (one.up, one.down) == (pytest.approx(other.up, rel=1e-2), pytest.approx(other.down))
    for a, b in zip(one.rounds, other.rounds, strict=True):
        assert a["test"]["loss"] == pytest.approx(b["test"]["loss"], rel=1e-4)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=7), st.integers(1, 16))
def test_batches_of_similar_length_go_together_at_the_least_cost(
    lengths: list[int], rows: int
) -> None:
    def cost(runs: list[list[int]]) -> int:
        return sum(rows * len(r) * max(lengths[i] for i in r) + PASS for r in runs)

    blank = torch.zeros(rows, dtype=torch.int64)
    some = [Batch(*[torch.zeros(rows, n, dtype=torch.int64)] * 2, blank, blank) for n in lengths]
    found = alike(some)
    assert sorted(i for run in found for i in run) == list(range(len(lengths)))
    assert all(run == sorted(run) for run in found)
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    for cuts in itertools.product([False, True], repeat=len(lengths) - 1):
        ways = [[order[0]]]
        for cut, i in zip(cuts, order[1:], strict=True):
            ways.append([i]) if cut else ways[-1].append(i)
        assert cost(found) <= cost(ways)
