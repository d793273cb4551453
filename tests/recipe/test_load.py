"""Reading a recipe: values, overrides, places."""

from pathlib import Path
from typing import Any

import pytest

from polyrank.errors import RecipeError
from polyrank.recipe import Recipe
from polyrank.recipe import load as room
from polyrank.recipe.load import Loaded, bundled, load, located
from polyrank.recipe.schema import Algorithm, Data, Local, Lora

TEXT = """\
# a comment
seed: 3
data:
  path: train.csv
  test: test.csv
  clients: 4
lora: {alpha: 16, rslora: true,
       ranks: [2, 4, 8, 16]}
algorithm:
  name: fedhl
  tau: 2
local:
  steps: 50
"""


def read(folder: Path, text: str, *overrides: str) -> Loaded:
    (folder / "demo.yaml").write_text(text, encoding="utf-8")
    return load(folder / "demo.yaml", overrides)


def test_no_key_at_all_is_the_recipe_of_all_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "{}").recipe == Recipe()
    assert Recipe().data == Data(name="docstrings")


def test_a_file_is_read_into_types(tmp_path: Path) -> None:
    assert read(tmp_path, TEXT).recipe == Recipe(
        seed=3,
        data=Data(path=Path("train.csv"), test=Path("test.csv"), clients=4),
        lora=Lora(alpha=16.0, rslora=True, ranks=(2, 4, 8, 16)),
        algorithm=Algorithm.model_validate({"name": "fedhl", "tau": 2}),
        local=Local(steps=50),
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E-3", 1e-3), ("3e-4", 3e-4), ("1.5e+2", 150.0), ("2e2", 200.0),
     (".5", 0.5), ("5.", 5.0), ("1", 1.0), ("+2", 2.0)],
)  # fmt: skip
def test_numbers_are_numbers_in_the_file_and_on_the_command_line(
    text: str, value: float, tmp_path: Path
) -> None:
    assert read(tmp_path, f"local: {{lr: {text}}}").recipe.local.lr == value
    assert read(tmp_path, "{}", f"local.lr={text}").recipe.local.lr == value


def test_words_are_words_as_in_yaml_1_2(tmp_path: Path) -> None:
    text = "name: on\nmodel: no\nrounds: 010\ndata: {text: 2026-11-02, label: '1:30'}"
    recipe = read(tmp_path, text).recipe
    assert (recipe.name, recipe.model, recipe.rounds) == ("on", "no", 10)
    assert (recipe.data.text, recipe.data.label) == ("2026-11-02", "1:30")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffseed: 4").recipe.seed == 4


def test_shorthands_name_the_data_and_the_algorithm(tmp_path: Path) -> None:
    recipe = read(tmp_path, "data: ag_news\nalgorithm: flora").recipe
    assert (recipe.data.name, recipe.algorithm) == ("ag_news", Algorithm(name="flora"))


def test_data_without_a_source_is_the_embedded_data(tmp_path: Path) -> None:
    data = read(tmp_path, "data: {clients: 3, name: null}").recipe.data
    assert (data.name, data.clients) == ("docstrings", 3)


@pytest.mark.parametrize(
    ("text", "ranks"),
    [("{4: 60%, 16: 40 %}", {4: 0.6, 16: 0.4}), ("{4: 33.4%, 8: 0.666}", {4: 0.334, 8: 0.666}),
     ("{4: 1, 8: 0}", {4: 1.0, 8: 0.0}), ("[4, 4]", (4, 4)), ("8", 8)],
)  # fmt: skip
def test_ranks_have_three_forms(text: str, ranks: Any, tmp_path: Path) -> None:
    recipe = read(tmp_path, f"data: {{clients: 2}}\nlora: {{ranks: {text}}}").recipe
    assert recipe.lora.ranks == ranks


def test_a_list_of_ranks_may_differ_from_clients_where_the_data_makes_the_clients(
    tmp_path: Path,
) -> None:
    text = "data: {partition: key(speaker)}\nlora: {ranks: [2, 4]}"
    assert read(tmp_path, text).recipe.data.partition_kind == ("key", "speaker")


def test_dirichlet_takes_any_positive_number(tmp_path: Path) -> None:
    for alpha in ("0.5", ".5", "10", "1e-1"):
        data = read(tmp_path, "{}", f"data.partition=dirichlet({alpha})").recipe.data
        assert data.partition_kind == ("dirichlet", alpha)


CHANGES: list[tuple[list[str], dict[str, Any]]] = [
    (["local.lr=3e-3"], {"local.lr": 3e-3}),
    (["local.lr=1e-1", "local.lr=3e-3"], {"local.lr": 3e-3}),
    ([" local.lr = 3e-3"], {"local.lr": 3e-3}),
    (["local={lr: 1}", "local.batch=2"], {"local.lr": 1.0, "local.batch": 2, "local.steps": None}),
    (["local.batch=2", "local={lr: 1}"], {"local.lr": 1.0, "local.steps": None}),
    (["lora.ranks=[1,1,1,1]"], {"lora.ranks": (1, 1, 1, 1)}),
    (["lora.ranks={2: 50%, 4: 50%}", "lora.ranks.2=0.25", "lora.ranks.8=25%"],
     {"lora.ranks": {2: 0.25, 4: 0.5, 8: 0.25}}),
    (["local.clip="], {"local.clip": None}),
    (["local.clip=null"], {"local.clip": None}),
    (["track=wandb"], {"track": ("wandb",)}),
    (["track=wandb", "track=[mlflow, tensorboard]"], {"track": ("mlflow", "tensorboard")}),
    (["output.dir=a=b"], {"output.dir": Path("a=b")}),
    (["data.partition=dirichlet(0.5)"], {"data.partition": "dirichlet(0.5)"}),
    # one source of data replaces the other, with what belongs to it
    (["data.name=ag_news"], {"data.name": "ag_news", "data.path": None, "data.test": None}),
    (["data=docstrings"], {"data.name": "docstrings", "data.path": None, "data.test": None}),
    (["data.path=x.csv"], {"data.path": Path("x.csv"), "data.test": None}),
    (["data.path=x", "data.test=y"], {"data.path": Path("x"), "data.test": Path("y")}),
    (["data.test=y", "data.path=x"], {"data.path": Path("x"), "data.test": Path("y")}),
    (["data.subset=b", "data.name=a"],
     {"data.name": "a", "data.subset": "b", "data.path": None, "data.test": None}),
    (["data={path: x, clients: 4}"], {"data.path": Path("x"), "data.test": None}),
    # so do scale and alpha, steps and epochs
    (["lora.scale=2"], {"lora.scale": 2.0, "lora.alpha": None, "lora.rslora": False}),
    (["lora.alpha=8"], {"lora.alpha": 8.0}),
    (["lora.scale=null"], {}),
    (["local.epochs=3"], {"local.epochs": 3, "local.steps": None}),
    (["local.steps=3"], {"local.steps": 3}),
    (["local.epochs=3", "local.steps=7"], {"local.epochs": 3, "local.steps": 7}),
    # a new algorithm drops the options of the file's, a new name alone does not
    (["algorithm=flora"], {"algorithm": {"name": "flora"}}),
    (["algorithm.name=flora"], {"algorithm.name": "flora"}),
    (["algorithm.tau=5"], {"algorithm.tau": 5}),
    (["algorithm=flora", "algorithm.rho=1"], {"algorithm": {"name": "flora", "rho": 1}}),
    (["algorithm.rho=1", "algorithm=flora"], {"algorithm": {"name": "flora", "rho": 1}}),
    (["algorithm={name: flora}"], {"algorithm": {"name": "flora"}}),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "changes"), CHANGES, ids=lambda case: " ".join(case))
def test_overrides_change_what_they_name_and_what_belongs_to_it(
    overrides: list[str], changes: dict[str, Any], tmp_path: Path
) -> None:
    expected: dict[str, Any] = read(tmp_path, TEXT).recipe.model_dump()
    for key, value in changes.items():
        *sections, leaf = key.split(".")
        part = expected[sections[0]] if sections else expected
        part[leaf] = value
    assert read(tmp_path, TEXT, *overrides).recipe.model_dump() == expected


def test_an_override_goes_into_a_shorthand(tmp_path: Path) -> None:
    text = "algorithm: fedhl\ndata: ag_news"
    recipe = read(tmp_path, text, "algorithm.tau=2", "data.clients=3").recipe
    assert (recipe.algorithm.name, recipe.algorithm.options) == ("fedhl", {"tau": 2})
    assert (recipe.data.name, recipe.data.clients) == ("ag_news", 3)


def test_an_override_fills_an_empty_section(tmp_path: Path) -> None:
    assert read(tmp_path, "local:\nseed: 1", "local.lr=1").recipe.local == Local(lr=1.0)


def test_the_file_is_validated_after_the_overrides(tmp_path: Path) -> None:
    assert read(tmp_path, "rounds: 0", "rounds=2").recipe.rounds == 2


def test_every_key_knows_its_place(tmp_path: Path) -> None:
    loaded = read(tmp_path, TEXT, "local.lr=1", "lora.ranks=4", "evaluation.every=2")
    file = str(tmp_path / "demo.yaml")
    places = {
        "seed": ":2", "data": ":3", "data.path": ":4", "data.clients": ":6",
        "lora": ":7", "lora.rslora": ":7", "local": ":12", "local.steps": ":13",
        "lora.targets": ":7", "algorithm.tau": ":11", "algorithm.rho": ":9", "rounds": "", "": "",
    }  # fmt: skip
    assert {key: loaded.where(key) for key in places} == {k: file + v for k, v in places.items()}
    for key in ("local.lr", "lora.ranks", "evaluation.every", "evaluation"):
        assert loaded.where(key) == "command line"


def test_an_override_hides_the_lines_below_it(tmp_path: Path) -> None:
    loaded = read(tmp_path, TEXT, "algorithm=flora", "data={path: x, clients: 4}")
    assert loaded.where("data.clients") == "command line"
    assert loaded.where("algorithm.name") == "command line"


def test_a_later_mistake_gets_the_place_of_its_key(tmp_path: Path) -> None:
    loaded = read(tmp_path, TEXT, "local.batch=5")
    file = tmp_path / "demo.yaml"
    cases = {
        "lora.ranks": f"{file}:8: lora.ranks: is too large",
        "lora.targets": f"{file}:7: lora.targets: is too large",
        "local.batch": "command line: local.batch: is too large",
        "model": f"{file}: model: is too large",
        "": f"{file}: is too large",
    }
    for key, line in cases.items():
        assert located(RecipeError(key, "is too large"), loaded) == line


def test_a_mistake_that_has_a_place_keeps_it(tmp_path: Path) -> None:
    loaded = read(tmp_path, TEXT)
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, "\n\nrounds: 0")
    assert located(caught.value, loaded) == str(caught.value)


def test_a_bare_name_is_a_recipe_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "small.yaml").write_text("seed: 1")
    monkeypatch.setattr(room, "BUNDLED", folder)
    monkeypatch.chdir(tmp_path)
    assert bundled() == {"small": folder / "small.yaml"}
    assert load("small").where("seed") == f"{folder / 'small.yaml'}:1"
    (tmp_path / "small").write_text("seed: 2")
    assert load("small").recipe.seed == 2  # a file of that name comes first


def test_every_recipe_of_the_package_loads() -> None:
    assert "demo" in bundled()
    for name in bundled():
        assert load(name).recipe.name
