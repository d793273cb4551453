"""A language model in the federation: every algorithm, at once and one by one, on both engines."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import polyrank
from polyrank.algorithms import about, names
from polyrank.client.fit import fit
from polyrank.client.job import Job, Share, Task, job
from polyrank.client.model import template
from polyrank.client.placing import place
from polyrank.client.score import score, scores
from polyrank.experiment import single
from polyrank.experiment.setup import Setup, prepare
from polyrank.experiment.trial import trial
from polyrank.flower.server_app import main
from polyrank.lora.factor import Factor
from polyrank.messages import Client, Download
from polyrank.recipe.load import dump
from polyrank.recipe.schema import Local, Lora
from tests.flower.fake import FakeGrid, Nodes, configs, context
from tests.flower.test_same_bits import bits, traffic
from tests.writing.conftest import made

RANKS = (2, 1, 4, 2)


def changed(recipe: polyrank.Recipe, **keys: Any) -> polyrank.Recipe:
    return polyrank.Recipe.model_validate({**recipe.model_dump(), **keys})


def under(recipe: polyrank.Recipe, name: str, **keys: Any) -> polyrank.Recipe:
    lora = recipe.model_dump()["lora"]
    ranks = lora["ranks"] if about(name).mixed else 4
    return changed(recipe, algorithm=name, name=name, lora={**lora, "ranks": ranks}, **keys)


@pytest.fixture(scope="module")
def shared(stories: Path, llama_folder: Path) -> Setup:
    """Model and data, which all of them share."""
    return prepare(made(stories, llama_folder))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports take longer than these runs."""
    monkeypatch.setattr(single.page, "write", lambda path, runs: path.write_text("a report"))


@pytest.mark.parametrize("name", names())
def test_every_algorithm_trains_it(recipe: polyrank.Recipe, shared: Setup, name: str) -> None:
    records = trial(under(recipe, name), name, shared)
    first, last = records.rounds
    assert len(last["clients"]) == len(records.run["clients"]) == 8
    assert not last["left_out"]
    assert last["test"]["loss"] < first["test"]["loss"]
    assert last["test"]["perplexity"] == pytest.approx(math.exp(last["test"]["loss"]))
    assert records.value == records.final["test"]["loss"]
    assert all(c["own_loss"] > 0 for c in records.final["clients"])


@pytest.mark.parametrize("name", ["replicate", "catchup"])
def test_over_flower_it_ends_in_the_same_bits(
    recipe: polyrank.Recipe, tmp_path: Path, quick: None, name: str
) -> None:
    data = {**recipe.model_dump()["data"], "clients": 3}
    few = changed(recipe, data=data, lora={**recipe.model_dump()["lora"], "ranks": [1, 2, 4]})
    made = changed(few, algorithm=name, rounds=2, engine={"group": 1})
    here, there = polyrank.run(made), tmp_path / "flower"
    ids = [c["id"] for c in here.records.run["clients"]]
    grid = FakeGrid(Nodes(configs(tmp_path, ids)))
    main(grid, context({"recipe": dump(made), "folder": str(there), "min-nodes": len(ids)}))
    assert bits(there) == bits(here.folder)
    assert traffic(there) == traffic(here.folder)


def jobs(shared: Setup) -> list[Job]:
    found = []
    for i, rank in enumerate(RANKS):
        draw = torch.Generator().manual_seed(i)
        start = {
            n: Factor(*(torch.randn(t.shape, generator=draw) / 8 for t in (f.a, f.b)), 1.0)
            for n, f in template(shared.bench, rank).items()
        }
        share = Share(shared.train, range(9 * i, 9 * i + 5 + i), range(9 * i + 6, 9 * i + 8))
        found.append(job(share, Client(str(i), rank), Download(start=start), {}))
    return found


def test_clients_at_once_end_as_clients_alone(shared: Setup) -> None:
    task = Task(Lora(scale=1.0), Local(batch=4, epochs=2, lr=1e-2, optimizer="sgd"), 1, 1, 0)
    some = jobs(shared)
    at_once = fit(shared.bench, task, some)
    for one, (_, together) in zip(some, at_once, strict=True):
        ((_, alone),) = fit(shared.bench, task, [one])
        assert together.metrics.keys() == alone.metrics.keys()
        assert {"val_loss", "start_val_loss"} <= alone.metrics.keys()
        for name, value in alone.metrics.items():
            assert together.metrics[name] == pytest.approx(value, rel=1e-4)
        for name, f in alone.factors.items():
            for side in "ab":
                torch.testing.assert_close(
                    getattr(together.factors[name], side), getattr(f, side), rtol=1e-3, atol=2e-5
                )


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # within PEFT
def test_a_client_takes_the_steps_of_plain_transformers(shared: Setup, llama_folder: Path) -> None:
    """Two steps of SGD on the mean over the answers' tokens, with PEFT's own layers."""
    from peft import LoraConfig, get_peft_model

    one = jobs(shared)[0]
    one = one._replace(share=Share(shared.train, range(4)))  # a batch is all
    local = Local(batch=4, steps=2, lr=0.1, optimizer="sgd", clip=None)
    ((_, upload),) = fit(shared.bench, Task(Lora(scale=1.0), local, 1, 1, 0), [one])
    net = AutoModelForCausalLM.from_pretrained(llama_folder)
    how = LoraConfig(r=RANKS[0], lora_alpha=RANKS[0], target_modules=list(upload.factors))
    peft = get_peft_model(net, how)
    own = dict(peft.named_parameters())
    names = {n: f"base_model.model.{n}.lora_{{}}.default.weight" for n in upload.factors}
    with torch.no_grad():
        for name, f in one.download.start.items():
            own[names[name].format("A")].copy_(f.a)
            own[names[name].format("B")].copy_(f.b)
    pieces = shared.train.starts.diff()[:4].tolist()
    ids, marks = (t[: sum(pieces)].split(pieces) for t in (shared.train.ids, shared.train.counted))
    rows = torch.nn.utils.rnn.pad_sequence([t.long() for t in ids], True, shared.train.pad)
    marked = torch.nn.utils.rnn.pad_sequence(marks, True, False)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(n).long() for n in pieces], True, 0)
    optimizer = torch.optim.SGD([p for p in peft.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(2):
        labels = torch.where(marked, rows, -100)
        loss = peft(input_ids=rows, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert upload.metrics["loss"] == pytest.approx(sum(losses) / 2, abs=1e-5)
    for name, f in upload.factors.items():
        for side, t in (("A", f.a), ("B", f.b)):
            torch.testing.assert_close(t, own[names[name].format(side)].data, rtol=1e-4, atol=1e-5)


def test_scores_are_means_over_tokens(shared: Setup) -> None:
    """Overall, by category, and of parts: not means over examples."""
    place(shared.bench, {})
    whole = score(shared.bench, shared.test, 4)
    assert score(shared.bench, shared.test, 3).loss == pytest.approx(whole.loss, rel=1e-5)
    tokens = torch.stack(
        [m[1:].sum() for m in shared.test.counted.split(shared.test.starts.diff().tolist())]
    )
    parts = [torch.where(shared.test.labels == k)[0] for k in range(2)]
    one, other = (
        scores(shared.bench, shared.test, 4, [parts[0]])[0],
        score(shared.bench, shared.test, 4, parts[1]),
    )
    assert whole.by_class == pytest.approx((one.loss, other.loss), rel=1e-5)
    share = float(tokens[parts[0]].sum() / tokens.sum())
    assert whole.loss == pytest.approx(share * one.loss + (1 - share) * other.loss, rel=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_the_adapter_is_a_causal_one(
    recipe: polyrank.Recipe, shared: Setup, llama_folder: Path, quick: None
) -> None:
    result = polyrank.run(changed(recipe, lora={"ranks": 2}))
    net = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(llama_folder), result.adapter
    )
    assert net.peft_config["default"].task_type == "CAUSAL_LM"
    adapted = {
        n.rpartition(".lora_A")[0].rpartition(".")[2]
        for n, _ in net.named_parameters()
        if "lora_A" in n
    }
    assert adapted == {f"{n}_proj" for n in ("q", "k", "v", "o", "gate", "up", "down")}
    total, count = 0.0, 0.0
    net.train(False)
    with torch.no_grad():
        for ids, marks in zip(
            *(
                t.split(shared.test.starts.diff().tolist())
                for t in (shared.test.ids, shared.test.counted)
            ),
            strict=True,
        ):
            labels = torch.where(marks, ids.long(), -100)[None]
            total += net(input_ids=ids.long()[None], labels=labels).loss.item() * int(
                marks[1:].sum()
            )
            count += int(marks[1:].sum())
    assert total / count == pytest.approx(result.records.value, rel=1e-4)
