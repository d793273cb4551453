"""Whole runs of every algorithm on a tiny model: folder, records, adapter, resume, bad input."""

import gc
import json
import re
import resource
import shutil
import signal
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import polyrank
from polyrank.algorithms import about, names
from polyrank.client import fit
from polyrank.client.job import Job, Task
from polyrank.client.model import Workbench
from polyrank.client.placing import placed
from polyrank.engine.simulate import Simulator
from polyrank.errors import DataError, RecipeError, StorageError
from polyrank.evaluate import spectrum
from polyrank.experiment import single
from polyrank.experiment.events import Event, RoundDone
from polyrank.experiment.ready import prepared
from polyrank.experiment.trial import trial
from polyrank.lora import peft
from polyrank.lora.spectral import effective_rank
from polyrank.recipe.load import dump
from polyrank.report.records import load as load_records
from tests.conftest import tiny

FILES = ("adapter_config.json", "adapter_model.safetensors")


def load(recipe: Path, *overrides: str) -> polyrank.Recipe:
    return polyrank.load_recipe(recipe, overrides)


def bits(folder: Path) -> list[bytes]:
    return [(folder / "adapter" / name).read_bytes() for name in FILES]


def equal_ranks(name: str) -> list[str]:
    return [] if about(name).mixed else ["lora.ranks=4"]


@pytest.fixture(scope="session")
def whole(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, gpt2_folder: Path
) -> Callable[[str], polyrank.Result]:
    """A whole run of an algorithm on the tiny recipe, made once."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = tiny(folder, corpus, gpt2_folder)

    @cache
    def run(name: str) -> polyrank.Result:
        return polyrank.run(load(recipe, f"algorithm={name}", f"name={name}", *equal_ranks(name)))

    return run


Whole = Callable[[str], polyrank.Result]


@pytest.mark.parametrize("name", names())
def test_a_run_that_stops_goes_on_to_the_same_bytes(name: str, recipe: Path, whole: Whole) -> None:
    """Stopped by an exception after the first round; killed for real in test_kill.py."""

    def stop(event: Event) -> None:
        if isinstance(event, RoundDone) and event.record["round"] == 1:
            raise KeyboardInterrupt

    part = load(recipe, f"algorithm={name}", "name=part", *equal_ranks(name))
    with pytest.raises(KeyboardInterrupt):
        polyrank.run(part, watch=stop)
    folder = part.output.dir / "part"
    assert not (folder / "adapter").exists()
    (resumed,) = polyrank.resume(folder)
    assert bits(folder) == bits(whole(name).folder)
    assert [r["round"] for r in resumed.records.rounds] == [0, 1, 2, 3]
    assert resumed.accuracy == whole(name).accuracy


def test_a_run_that_goes_on_where_less_memory_is_free_keeps_its_groups(
    recipe: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, RoundDone) and event.record["round"] == 1:
            raise KeyboardInterrupt

    wanted = bits(whole("replicate").folder)
    part = load(recipe, "algorithm=replicate", "name=part")
    with pytest.raises(KeyboardInterrupt):
        polyrank.run(part, watch=stop)
    sizes: list[int] = []

    def noted(bench: Workbench, task: Task, jobs: Sequence[Job]) -> object:
        sizes.append(len(jobs))
        return fit.fit(bench, task, jobs)

    monkeypatch.setattr("polyrank.client.group.free", lambda device: 0)
    monkeypatch.setattr("polyrank.engine.simulate.fit", noted)
    polyrank.resume(part.output.dir / "part")
    assert sizes == [4, 4]
    assert bits(part.output.dir / "part") == wanted
    polyrank.run(load(recipe, "algorithm=replicate", "name=tight", "rounds=1"))
    assert sizes[2:] == [1, 1, 1, 1]


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_others(recipe: Path) -> None:
    one, two, other = (
        polyrank.run(load(recipe, f"name={n}", f"seed={seed}"))
        for n, seed in (("one", 0), ("two", 0), ("three", 1))
    )
    assert bits(one.folder) == bits(two.folder)
    assert bits(one.folder) != bits(other.folder)


def priced(formula: str, rank: int, ranks: list[int]) -> int | None:
    """Bytes by a formula such as `r_i(m+n)` over all layers; None where it is not that simple."""
    shapes = [(48, 16), (16, 64), (48, 16), (16, 64)]
    clause = formula.split(",")[0].removesuffix(" to every client")
    product = re.sub(r"(\w)\(", r"\1*(", clause.replace("r_i", "r").replace("·", "*"))
    if ", and" in formula or not re.fullmatch(r"[rRSmn()+*]+", product):
        return None
    known = {"r": rank, "R": max(ranks), "S": sum(ranks)}
    return sum(4 * eval(product, {**known, "m": m, "n": n}) for m, n in shapes)


@pytest.mark.parametrize("name", names())
def test_bytes_are_those_of_the_formulas(name: str, whole: Whole) -> None:
    """What each file says of itself is what goes over the wire, from the second round on."""
    records = whole(name).records
    ranks = [c["rank"] for c in records.run["clients"]]
    for record in records.rounds[2:]:
        for client in record["clients"]:
            for way, formula in (("up", about(name).up), ("down", about(name).down)):
                expected = priced(formula, client["rank"], ranks)
                sizes = client[way]
                if expected is not None:
                    assert sizes["factors"] == expected, (way, formula)
                assert sizes["dense"] == 4 * 3 * 16
                header = sizes["total"] - sizes["factors"] - sizes["dense"]
                assert 0 < header < 2500


def test_most_formulas_can_be_checked() -> None:
    formulas = [f for n in names() for f in (about(n).up, about(n).down)]
    assert sum(priced(f, 2, [2]) is not None for f in formulas) > 0.7 * len(formulas)


def test_a_complete_run_is_not_run_again(recipe: Path) -> None:
    result = polyrank.run(load(recipe))
    before = {p: p.stat().st_mtime_ns for p in result.folder.rglob("*")}
    polyrank.resume(result.folder)
    assert before == {p: p.stat().st_mtime_ns for p in result.folder.rglob("*")}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own
@pytest.mark.parametrize("name", names())
def test_the_adapter_is_the_global_model_in_peft(name: str, recipe: Path, whole: Whole) -> None:
    """PeftModel.from_pretrained on the exported folder scores what the last record says."""
    from peft import PeftModel

    if about(name).personal:
        pytest.skip("every client has a model of its own")
    made = load(recipe, f"algorithm={name}", *equal_ranks(name))
    result = whole(name)
    setup = single.prepare(made)
    base = AutoModelForSequenceClassification.from_pretrained(made.model, num_labels=3)
    base.config.pad_token_id = 0
    model = PeftModel.from_pretrained(base, result.adapter).eval()
    right = 0
    for i in range(len(setup.test)):
        ids = setup.test.ids[setup.test.starts[i] : setup.test.starts[i + 1]]
        right += int(model(input_ids=ids[None]).logits.argmax()) == int(setup.test.labels[i])
    assert right / len(setup.test) == pytest.approx(result.accuracy, abs=1e-6)


def test_every_client_holds_a_model_that_is_scored(recipe: Path) -> None:
    final = polyrank.run(load(recipe, "algorithm=flexlora")).records.final
    assert final is not None
    assert [c["rank"] for c in final["clients"]] == [1, 2, 4, 8]
    assert final["clients"][-1]["accuracy"] == final["test"]["accuracy"]  # the whole rank R


def test_partial_participation_under_flora_sends_what_was_missed(recipe: Path) -> None:
    made = load(recipe, "algorithm=flora", "participation=0.5", "rounds=5", "lora.ranks=2")
    result = polyrank.run(made)
    taking_part = [{c["id"] for c in r["clients"]} for r in result.records.rounds[1:]]
    assert all(len(t) == 2 for t in taking_part)
    # Every client's private base, wherever it is, plus what it is sent next is the global model.
    finals = {c["accuracy"] for c in result.records.final["clients"]}
    assert finals == {result.accuracy}


def test_clients_without_examples_take_no_part_and_are_named(recipe: Path) -> None:
    result = polyrank.run(load(recipe, "data.partition=dirichlet(0.01)", "seed=3"))
    idle = {i["id"] for i in result.records.run["idle"]}
    assert idle
    assert all(i["reason"] == "no examples" for i in result.records.run["idle"])
    for record in result.records.rounds[1:]:
        assert idle.isdisjoint(c["id"] for c in record["clients"])
        assert record["clients"]


def test_a_client_with_one_class_trains_like_any_other(recipe: Path) -> None:
    result = polyrank.run(
        load(recipe, "data.partition=shards(1)", "data.clients=3", "lora.ranks=2")
    )
    for client in result.records.run["clients"]:
        assert sum(n > 0 for n in client["labels"]) == 1
    assert not any(r["left_out"] for r in result.records.rounds)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Clients in this set send NaN."""
    ids: set[str] = set()
    honest = fit.train

    def train(bench: Workbench, task: Task, jobs: Sequence[Job]) -> list[list[float]]:
        losses = honest(bench, task, jobs)
        for place, job in enumerate(jobs):
            for f in placed(bench, place).values() if job.client.id in ids else ():
                f.a.data.fill_(torch.nan)
                f.b.data.fill_(torch.nan)
        return losses

    monkeypatch.setattr(fit, "train", train)
    return ids


def test_a_client_that_sends_nan_is_left_out_and_named(recipe: Path, poisoned: set[str]) -> None:
    poisoned.add("2")
    records = polyrank.run(load(recipe)).records
    for record in records.rounds[1:]:
        assert [x["id"] for x in record["left_out"]] == ["2"]
        assert "NaN" in record["left_out"][0]["reason"]
        assert "2" not in {c["id"] for c in record["clients"]}


@pytest.mark.parametrize("limit", ["null", "10"])
def test_a_client_that_sends_far_more_than_the_others_is_recorded_and_left_out_by_the_limit(
    limit: str, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = fit.train

    def train(bench: Workbench, task: Task, jobs: Sequence[Job]) -> list[list[float]]:
        losses = honest(bench, task, jobs)
        for place, job in enumerate(jobs):
            bad = job.client.id == "2" and task.round > 1
            for f in placed(bench, place).values() if bad else ():
                f.b.data.mul_(1e3)
        return losses

    monkeypatch.setattr(fit, "train", train)
    result = polyrank.run(load(recipe, f"aggregation.max_norm={limit}"))
    first, second, _ = result.records.rounds[1:]
    assert all(c["norm"]["factors"] > 0 < c["norm"]["dense"] for c in first["clients"])
    norms = {x["id"]: x["norm"]["factors"] for x in (*second["clients"], *second["left_out"])}
    assert norms["2"] > 100 * max(norms[id] for id in "013")
    out = [(x["id"], "aggregation.max_norm" in x["reason"]) for x in second["left_out"]]
    assert out == ([] if limit == "null" else [("2", True)])
    assert "plot-norms" in (result.folder / "report.html").read_text()


@pytest.mark.parametrize("name", names())
def test_rounds_in_which_all_fail_leave_the_model_as_it_was(
    name: str, recipe: Path, poisoned: set[str]
) -> None:
    poisoned.update("0123")
    result = polyrank.run(load(recipe, f"algorithm={name}", *equal_ranks(name)))
    assert all(not f.delta.any() for f in peft.load(result.adapter).factors.values())
    records = result.records
    assert all(r["unchanged"] for r in records.rounds[1:])
    assert {r["test"]["accuracy"] for r in records.rounds} == {records.accuracy}
    assert {r["test"]["loss"] for r in records.rounds} == {records.rounds[0]["test"]["loss"]}


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["lora.ranks=[1,2,4,17]"], RecipeError, r"lora.ranks: rank 17 is too large .* 16"),
        (["lora.targets=[query]"], RecipeError, r"no layer is called 'query'.*c_attn"),
        (["algorithm=fedit"], RecipeError, r"fedit needs equal ranks.* 1, 2, 4, 8;.*replicate"),
        (["algorithm=fdhl"], RecipeError, r"no algorithm 'fdhl'; did you mean 'fedhl'"),
        (["algorithm=florist", "algorithm.tua=1"], RecipeError, "did you mean 'tau'"),
        (["algorithm=florist", "algorithm.tau=x"], RecipeError, "algorithm.tau: 'x'"),
        (["algorithm=florist", "algorithm.tau=-1"], RecipeError, "algorithm.tau: -1"),
        (["algorithm=florist", "algorithm.tau=.nan"], RecipeError, "algorithm.tau: nan"),
        (["data.max_length=33"], RecipeError, "data.max_length: 33 tokens .* at most 32"),
        (["data.path=no/such.csv"], DataError, "no/such.csv"),
        (["model=no/such/model"], RecipeError, "model: .*no/such/model"),
    ],
)
def test_bad_input_is_one_line(
    overrides: list[str], error: type[Exception], message: str, recipe: Path
) -> None:
    with pytest.raises(error, match=message) as raised:
        polyrank.run(load(recipe, *overrides))
    assert "\n" not in str(raised.value)
    assert not (recipe.parent / "runs").exists()  # mended, the same command works


def test_a_folder_that_exists_is_not_touched(recipe: Path) -> None:
    made = load(recipe)
    result = polyrank.run(made)
    before = bits(result.folder)
    with pytest.raises(StorageError, match=r"exists already: `polyrank resume .*` .*--overwrite"):
        polyrank.run(made)
    assert bits(result.folder) == before
    assert bits(polyrank.run(made, overwrite=True).folder) == before
    foreign = made.output.dir / "thesis"
    foreign.mkdir()
    (foreign / "chapter1.tex").write_text("years of work")
    with pytest.raises(StorageError, match="is no run folder"):
        polyrank.run(load(recipe, "name=thesis"), overwrite=True)
    assert (foreign / "chapter1.tex").exists()


def test_a_full_disk_at_checkpoint_time_loses_no_finished_round(recipe: Path) -> None:
    """The kernel refuses to write more in round two; with room again the run goes on."""
    made = load(recipe, "algorithm=fedhl")
    whole = polyrank.run(load(recipe, "algorithm=fedhl", "name=whole"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(event: Event) -> None:
        if isinstance(event, RoundDone):
            resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))

    try:
        with pytest.raises(StorageError, match=r"cannot write .*checkpoint\.saf.*unharmed"):
            polyrank.run(made, watch=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    polyrank.resume(made.output.dir / made.name)
    assert bits(made.output.dir / made.name) == bits(whole.folder)


def test_a_checkpoint_of_another_recipe_is_refused(recipe: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, RoundDone):
            raise KeyboardInterrupt

    made = load(recipe)
    with pytest.raises(KeyboardInterrupt):
        polyrank.run(made, watch=stop)
    folder = made.output.dir / made.name
    other = load(recipe, "local.lr=0.5")
    (folder / "recipe.yaml").write_text(dump(other))
    with pytest.raises(StorageError, match="made by another recipe"):
        polyrank.resume(folder)
    (folder / "recipe.yaml").write_text(dump(made))
    assert polyrank.resume(folder)[0].accuracy is not None


def test_a_run_folder_may_move(recipe: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, RoundDone):
            raise KeyboardInterrupt

    made = load(recipe, "algorithm=flora")
    whole = polyrank.run(load(recipe, "algorithm=flora", "name=whole"))
    with pytest.raises(KeyboardInterrupt):
        polyrank.run(made, watch=stop)
    moved = tmp_path / "elsewhere"
    shutil.move(made.output.dir / made.name, moved)
    polyrank.resume(moved)
    assert bits(moved) == bits(whole.folder)


def test_data_that_changed_since_the_run_began_is_refused(
    recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, RoundDone):
            raise KeyboardInterrupt

    own = shutil.copytree(corpus, tmp_path / "own")
    made = load(recipe, f"data.path={own}")
    with pytest.raises(KeyboardInterrupt):
        polyrank.run(made, watch=stop)
    with (own / "train.jsonl").open("a") as file:
        file.write(json.dumps({"text": "a cat", "label": "animals"}) + "\n")
    with pytest.raises(StorageError, match=r"data has changed since .*tiny began"):
        polyrank.resume(made.output.dir / made.name)


def test_a_report_alone_does_not_make_a_run_complete(recipe: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, RoundDone):
            raise KeyboardInterrupt

    made = load(recipe)
    with pytest.raises(KeyboardInterrupt):
        polyrank.run(made, watch=stop)
    folder = made.output.dir / made.name
    (folder / "report.html").write_text("made by hand on the way")
    polyrank.resume(folder)
    assert (folder / "adapter").exists()


def test_one_run_of_a_comparison_resumes_under_its_own_label(recipe: Path) -> None:
    chosen = "fedhl,fedhl:aggregation.weights=data"
    seen = []

    def stop(event: Event) -> None:
        seen.append(event)
        if sum(isinstance(e, RoundDone) for e in seen) == 4:  # in the second run
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        polyrank.compare(recipe, chosen, watch=stop)
    whole = recipe.parent / "runs/tiny"
    child = next(p for p in whole.iterdir() if "weights" in p.name)
    (result,) = polyrank.resume(child)
    assert result.records.label == "fedhl:aggregation.weights=data"
    assert len(polyrank.resume(whole)) == 2
    assert (whole / "report.html").exists()


def test_a_damaged_private_state_ends_the_run_and_changes_nothing(recipe: Path) -> None:
    """A fault of the disk is no client's failure: nobody is left out because of it."""

    def damage(event: Event) -> None:
        if isinstance(event, RoundDone) and event.record["round"] == 2:
            state = next((made.output.dir / made.name / "clients").iterdir())
            state.write_bytes(state.read_bytes()[:-1])

    made = load(recipe, "algorithm=flora")
    with pytest.raises(StorageError, match="clients"):
        polyrank.run(made, watch=damage)
    records = load_records(made.output.dir / made.name / "records.jsonl")
    assert records.done == 2


def test_resuming_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        polyrank.resume(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="is no run folder"):
        polyrank.resume(tmp_path)


@pytest.mark.slow
def test_a_comparison_goes_on_where_it_stopped(recipe: Path) -> None:
    chosen = "replicate,fedit:lora.ranks=4,fedhl:aggregation.weights=coherent"
    whole = polyrank.compare(recipe, chosen, seeds=2, overrides=["name=whole"])
    assert len(whole) == 6
    seen = []

    def stop(event: Event) -> None:
        seen.append(event)
        if sum(isinstance(e, RoundDone) for e in seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        polyrank.compare(recipe, chosen, seeds=2, overrides=["name=part"], watch=stop)
    folder = whole[0].folder.parents[1] / "part"
    resumed = polyrank.resume(folder)
    for one, other in zip(whole, resumed, strict=True):
        assert one.folder.name == other.folder.name
        assert bits(one.folder) == bits(other.folder)
    assert (folder / "report.html").exists()


def test_runs_side_by_side_equal_runs_alone(recipe: Path) -> None:
    """A shared model and head carry nothing from one algorithm's run to the next."""
    both = polyrank.compare(recipe, "flora,fedhl", overrides=["name=both"])
    alone = polyrank.run(load(recipe, "algorithm=fedhl", "name=alone"))
    assert bits(both[1].folder) == bits(alone.folder)
    assert both[0].records.rounds[0]["test"] == both[1].records.rounds[0]["test"]


def test_the_spectrum_in_the_records_is_that_of_the_adapter(recipe: Path) -> None:
    result = polyrank.run(load(recipe, "algorithm=fedhl"))
    held = peft.load(result.adapter).factors
    expected = spectrum(held)
    recorded = result.records.rounds[-1]["spectrum"]
    assert recorded["effective_rank"] == pytest.approx(expected["effective_rank"], rel=1e-3)
    json.dumps(expected)


def test_effective_rank_counts_equal_directions() -> None:
    assert effective_rank(torch.tensor([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3)
    assert effective_rank(torch.tensor([5.0])) == pytest.approx(1)
    assert effective_rank(torch.zeros(4)) == 0


def test_a_finished_trial_leaves_no_tensors_behind(recipe: Path) -> None:
    """Thousands of trials in one process: nothing waits for the garbage collector."""
    made = load(recipe, "algorithm=flora")
    setup = prepared(made)
    trial(made, "flora", setup)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(o) is Simulator for o in gc.get_objects())
        trial(made, "flora", setup)
        assert sum(type(o) is Simulator for o in gc.get_objects()) == before
    finally:
        gc.enable()
