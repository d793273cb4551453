"""Every mistake in a recipe is one line: place, key, value, what is expected."""

from pathlib import Path

import pytest

from polyrank.errors import RecipeError
from polyrank.recipe import load as room
from polyrank.recipe.load import load

RANK = "a rank (a whole number, at least 1)"
RANKS = f"{RANK}, a list such as [4, 8] or a mix such as {{4: 60%, 8: 40%}}"
TOP = (
    "aggregation, algorithm, cache, data, engine, evaluation, generation, local, lora, model, "
    "name, output, participation, rounds, seed, task, track, wire"
)

LR = "did you mean 'lr' under 'aggregation' or 'lr' under 'local'?"

FILES = {
    # the file as a whole
    "": ": is empty; {} is the recipe of all defaults",
    "# nothing\n": ": is empty; {} is the recipe of all defaults",
    "- 1": ":1: [1] is not a mapping such as 'rounds: 10'",
    "demo": ":1: 'demo' is not a mapping such as 'rounds: 10'",
    "rounds: 3\nseed: [1": ":2:9: not YAML: while parsing a flow sequence, "
    "expected ',' or ']', but got '<stream end>'",
    "rounds: a: b": ":1:10: not YAML: mapping values are not allowed here",
    "seed: 1\nname: \x01": ":2:7: not YAML: the character U+0001 is not allowed",
    "seed: 1\n---\nseed: 2": ":2:1: not YAML: expected a single document in the stream, "
    "but found another document",
    "name: &n x\nmodel: *n": ":2:8: not YAML: tags (!) and aliases (*) have no meaning here; "
    "put such text in quotes",
    "name: !!python/object/apply:os.getcwd []": ":1:7: not YAML: tags (!) and aliases (*) have "
    "no meaning here; put such text in quotes",
    "a: " + "[" * 3000: ":1:1: not YAML: nested too deeply",
    "? [a]\n: 1": ":1: a key is one word, not a list or a mapping",
    # keys
    "seed: 1\nlocal:\n  lr: 1\n  batch: 2\n  lr: 2": ":5: local.lr: given twice (first on line 3)",
    "seed: 1\n\nseed: 2": ":3: seed: given twice (first on line 1)",
    "lora:\n  targets: [query]\n  rank: 8": ":3: lora.rank: unknown key; did you mean 'ranks'?",
    "seed: 1\nlcoal: {}": ":2: lcoal: unknown key; did you mean 'local'?",
    "lr: 1e-3": f":1: lr: unknown key; {LR}",
    "local.lr: 1": f":1: local.lr: unknown key; {LR}",
    "clinets: 4": ":1: clinets: unknown key; did you mean 'clients' under 'data' "
    "or 'clients' under 'evaluation'?",
    "batch: 4": ":1: batch: unknown key; did you mean 'batch' under 'local' "
    "or 'batch' under 'evaluation'?",
    "zzz: 4": f":1: zzz: unknown key; valid: {TOP}",
    "1: 4": f":1: 1: unknown key; valid: {TOP}",
    "evaluation: {zzz: 4}": ":1: evaluation.zzz: unknown key; "
    "valid: batch, clients, every, probe, probe_examples, target",
    "<<: {seed: 1}": f":1: <<: unknown key; valid: {TOP}",
    '"a\\nb": 4': f":1: 'a\\nb': unknown key; valid: {TOP}",
    # numbers
    "seed: 1\nrounds: ten": ":2: rounds: 'ten' is not a whole number (at least 1)",
    "rounds: '10'": ":1: rounds: '10' is not a whole number (at least 1)",
    "rounds: 0": ":1: rounds: 0 must be at least 1",
    "rounds: 2.5": ":1: rounds: 2.5 is not a whole number (at least 1)",
    "rounds: true": ":1: rounds: true is not a whole number (at least 1)",
    "rounds:": ":1: rounds: null is not a whole number (at least 1)",
    "rounds: " + "9" * 5000: ":1: rounds: '" + "9" * 57 + "…' is not a whole number (at least 1)",
    "local: {lr: 0}": ":1: local.lr: 0 must be above 0",
    "local: {lr: x}": ":1: local.lr: 'x' is not a number (above 0)",
    "local: {lr: yes}": ":1: local.lr: 'yes' is not a number (above 0)",
    "local: {lr: false}": ":1: local.lr: false is not a number (above 0)",
    "local: {lr: .inf}": ":1: local.lr: inf is not a finite number (above 0)",
    "local: {lr: 1e400}": ":1: local.lr: inf is not a finite number (above 0)",
    "participation: 1.5": ":1: participation: 1.5 must be at most 1",
    "participation: a": ":1: participation: 'a' is not a number (above 0 and at most 1)",
    "lora: {dropout: 1}": ":1: lora.dropout: 1 must be below 1",
    # other kinds
    "lora: {rslora: 1}": ":1: lora.rslora: 1 is not true or false",
    "local: {optimizer: adam}": ":1: local.optimizer: 'adam' is unknown; did you mean 'adamw'?",
    "local: {schedule: 3}": ":1: local.schedule: 3 is unknown; valid: constant, cosine, linear",
    "model: 7": ":1: model: 7 is not text; put it in quotes",
    "model: [a]": ":1: model: ['a'] is not text",
    "model: ''": ":1: model: '' is empty",
    "name: a/b": ":1: name: 'a/b' is not a name for a folder (letters, digits and . , = + @ - _)",
    "name: ..": ":1: name: '..' is not a name for a folder (letters, digits and . , = + @ - _)",
    "output: {dir: 4}": ":1: output.dir: 4 is not a path",
    "output: {dir: ''}": ":1: output.dir: '' is empty",
    "lora: {targets: query}": ":1: lora.targets: 'query' is not a list, such as [query, value]",
    "lora: {targets: []}": ":1: lora.targets: [] is empty",
    "lora:\n  targets:\n  - query\n  - 4": ":4: lora.targets: 4 is not text; put it in quotes",
    "seed: 1\nevaluation:": ":2: evaluation: null is not a mapping of keys "
    "(every, batch, target, probe, probe_examples, clients)",
    # trackers
    "track: [tensorbord]": ":1: track: ['tensorbord'] names 'tensorbord', which is no tracker; "
    "did you mean 'tensorboard'?",
    "track: neptune": ":1: track: 'neptune' names 'neptune', which is no tracker; "
    "valid: mlflow, tensorboard, wandb",
    "track: [wandb, 3]": ":1: track: ['wandb', 3] names 3, which is no tracker; "
    "valid: mlflow, tensorboard, wandb",
    "track: [wandb, wandb]": ":1: track: ['wandb', 'wandb'] names 'wandb' twice",
    "track: 3": ":1: track: 3 is not a tracker or a list of some; "
    "valid: tensorboard, wandb, mlflow",
    "track: null": ":1: track: null is not a tracker or a list of some; "
    "valid: tensorboard, wandb, mlflow",
    "output: x": ":1: output: 'x' is not a mapping of keys (dir)",
    "algorithm: 5": ":1: algorithm: 5 is not a name or a mapping of keys (name)",
    "seed: 1\nalgorithm:\n  tau: 2": ":2: algorithm.name: is missing",
    # keys that contradict each other
    "lora:\n  alpha: 16\n  scale: 2": ":3: lora.scale: 2 beside alpha 16: keep one of them",
    "lora: {rslora: true}": ":1: lora.rslora: true needs lora.alpha",
    "data:\n  path: a.csv\n  name: b": ":2: data.path: 'a.csv' beside name 'b': keep one of them",
    "data: {test: a}": ":1: data.test: 'a' needs data.path, the file to train on",
    "data: {path: x, subset: a}": ":1: data.subset: 'a' needs data.name, a hub data set",
    # several
    "rounds: 0\nlocal:\n  lr: -1\nlora: {rank: 1}\nzzz: 1": ":1: rounds: 0 must be at least 1 "
    "(and 3 more)",
    "zzz: 1\nrounds: 0": f":1: zzz: unknown key; valid: {TOP} (and 1 more)",
    "local: {lr: -1, batch: 0}": ":1: local.lr: -1 must be above 0 (and 1 more)",
}  # fmt: skip

BAD_RANKS = {
    "0": f"0 is not {RANK}",
    "-1": f"-1 is not {RANK}",
    "4.5": f"4.5 is not {RANK}",
    "8.0": f"8.0 is not {RANK}",
    "true": f"true is not {RANK}",
    "'8'": f"'8' is not {RANKS}",
    "4,8": f"'4,8' is not {RANKS}",
    "null": f"null is not {RANKS}",
    "[]": "[] is empty",
    "[4, 0]": f"0 is not {RANK}",
    "[4, -8]": f"-8 is not {RANK}",
    "[4, 8.5]": f"8.5 is not {RANK}",
    "[4, true]": f"true is not {RANK}",
    "['4']": f"'4' is not {RANK}",
    "[[4]]": f"[4] is not {RANK}",
    "[4, 8]": "2 ranks for 10 clients; a list has one rank for each client",
    "{0: 100%}": f"0 is not {RANK}",
    "{-4: 50%, 4: 50%}": f"-4 is not {RANK}",
    "{4.5: 100%}": f"4.5 is not {RANK}",
    "{'4': 100%}": f"'4' is not {RANK}",
    "{true: 100%}": f"true is not {RANK}",
    "{4: 60%, 8: 30%}": "{4: '60%', 8: '30%'} adds up to 90%, not 100%",
    "{4: 0.6, 8: 0.6}": "{4: 0.6, 8: 0.6} adds up to 120%, not 100%",
    "{}": "{} adds up to 0%, not 100%",
    "{4: most}": "'most' is not a share, such as 60% or 0.6",
    "{4: 60, 8: 40}": "60 is not a share, such as 60% or 0.6",
    "{4: 150%}": "'150%' is not a share, such as 60% or 0.6",
    "{4: -0.5, 8: 1.5}": "-0.5 is not a share, such as 60% or 0.6",
    "{4: -50%, 8: 50%}": "'-50%' is not a share, such as 60% or 0.6",
    "{4: true}": "true is not a share, such as 60% or 0.6",
    "{4: [1]}": "[1] is not a share, such as 60% or 0.6",
    "{4: null}": "null is not a share, such as 60% or 0.6",
}

FORMS = "valid: dirichlet(0.5), iid, key(column), mixed(10%, 100, 0.3), shards(2)"
BAD_PARTITIONS = {
    "iidd": "'iidd' is not a partition; did you mean 'iid'?",
    "dirichlet": "'dirichlet' is not a partition; did you mean 'dirichlet(0.5)'?",
    "dirchlet(0.1)": "'dirchlet(0.1)' is not a partition; did you mean 'dirichlet(0.5)'?",
    "dirichlet(x)": "'dirichlet(x)' is not a partition; did you mean 'dirichlet(0.5)'?",
    "dirichlet(0)": "'dirichlet(0)' needs an alpha above 0",
    "dirichlet(0e5)": "'dirichlet(0e5)' needs an alpha above 0",
    "dirichlet(1e999)": "'dirichlet(1e999)' needs an alpha above 0",
    "shards(0)": "'shards(0)' is not a partition; did you mean 'shards(2)'?",
    "shard(2)": "'shard(2)' is not a partition; did you mean 'shards(2)'?",
    "speaker": f"'speaker' is not a partition; {FORMS}",
    "key()": "'key()' is not a partition; did you mean 'key(column)'?",
}

OVERRIDES = {
    "local.lr=-1": "local.lr: -1 must be above 0",
    "local.lr=fast": "local.lr: 'fast' is not a number (above 0)",
    "lcoal.lr=1": "lcoal: unknown key; did you mean 'local'?",
    "local.rl=1": "local.rl: unknown key; did you mean 'lr'?",
    "lr=1": f"lr: unknown key; {LR}",
    "lora.ranks=[4, 8]": "lora.ranks: 2 ranks for 10 clients; a list has one rank for each client",
    "lora.ranks={4: 50%, 8: 40%}": "lora.ranks: {4: '50%', 8: '40%'} adds up to 90%, not 100%",
    "lora.ranks={4: 50%, 4: 50%}": "lora.ranks.4: given twice",
    "lora.ranks=[2,4": "lora.ranks: '[2,4' is not YAML: while parsing a flow sequence, "
    "expected ',' or ']', but got '<stream end>'",
    "name=@home": "name: '@home' is not YAML: while scanning for the next token, "
    "found character '@' that cannot start any token",
    "rounds": "'rounds' is not key=value, such as local.lr=3e-3",
    "=3": "'=3' is not key=value, such as local.lr=3e-3",
    "local..lr=3": "'local..lr=3' is not key=value, such as local.lr=3e-3",
    "rounds.x=3": "rounds: {'x': 3} is not a whole number (at least 1)",
}


def message(text: str, *overrides: str) -> str:
    Path("demo.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load("demo.yaml", overrides)
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).endswith(RecipeError(caught.value.key, caught.value.problem).args[0])
    return str(caught.value)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(room, "BUNDLED", tmp_path / "none")


@pytest.mark.parametrize("text", FILES)
def test_a_mistake_in_the_file_is_one_line(text: str) -> None:
    assert message(text) == f"demo.yaml{FILES[text]}"


@pytest.mark.parametrize("ranks", BAD_RANKS)
def test_a_wrong_rank_is_one_line(ranks: str) -> None:
    assert message(f"lora:\n  ranks: {ranks}") == f"demo.yaml:2: lora.ranks: {BAD_RANKS[ranks]}"


@pytest.mark.parametrize("partition", BAD_PARTITIONS)
def test_a_wrong_partition_is_one_line(partition: str) -> None:
    expected = f"demo.yaml:2: data.partition: {BAD_PARTITIONS[partition]}"
    assert message(f"data:\n  partition: {partition}") == expected


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_mistake_on_the_command_line_is_one_line(override: str) -> None:
    assert message("seed: 1", override) == f"command line: {OVERRIDES[override]}"


def test_an_error_carries_its_key_and_problem() -> None:
    Path("demo.yaml").write_text("local: {lr: 0}")
    with pytest.raises(RecipeError) as caught:
        load("demo.yaml")
    assert (caught.value.key, caught.value.problem) == ("local.lr", "0 must be above 0")


def test_mistakes_in_the_file_come_before_those_on_the_command_line() -> None:
    text = "seed: 1\nlocal:\n  batch: 0"
    assert message(text, "rounds=0") == (
        "demo.yaml:3: local.batch: 0 must be at least 1 (and 1 more)"
    )


def test_an_element_of_a_block_list_has_its_own_line() -> None:
    text = "lora:\n  ranks:\n    - 4\n    - 0\n    - 8"
    assert message(text) == f"demo.yaml:4: lora.ranks: 0 is not {RANK}"


def test_a_share_in_a_block_mix_has_its_own_line() -> None:
    text = "lora:\n  ranks:\n    4: 60%\n    8: forty"
    assert message(text).startswith("demo.yaml:4: lora.ranks: 'forty' is not a share")


def test_keys_of_a_flow_mapping_over_several_lines_have_their_own_lines() -> None:
    text = "local: {batch: 4,\n  lr: 1e-3,\n  steps: 0}"
    assert message(text) == "demo.yaml:3: local.steps: 0 must be at least 1"


def test_a_key_set_below_a_list_is_refused_where_the_list_is() -> None:
    text = "seed: 1\nlora: {ranks: [4, 8]}"
    assert message(text, "lora.ranks.0=3") == (
        "demo.yaml:2: lora.ranks: [4, 8] has no keys of its own, so that none can be set in it"
    )


def test_sources_that_are_both_on_the_command_line_contradict() -> None:
    assert message("seed: 1", "data.name=a", "data.path=b") == (
        "command line: data.path: 'b' beside name 'a': keep one of them"
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("dmeo.yaml", "no such recipe; did you mean 'demo.yaml'?"),
        ("demo", "no such recipe; did you mean 'demo.yaml'?"),
        ("zzzzzz", "no such recipe; valid: demo.yaml, first, other.yml"),
        ("frist", "no such recipe; did you mean 'first'?"),
        ("folder", "is a folder, not a recipe; valid: demo.yaml, first, other.yml"),
        ("folder/x.yaml", "no such recipe"),
        ("latin.txt", "is not text in UTF-8 (invalid continuation byte)"),
        ("x" * 5000, "no such recipe; valid: demo.yaml, first, other.yml"),
    ],
)  # fmt: skip
def test_a_missing_file_gets_the_nearest_name(
    path: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("demo.yaml", "other.yml", "none/first.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("{}")
    Path("folder").mkdir()
    Path("latin.txt").write_bytes("name: é".encode("latin-1") + b" ")
    monkeypatch.setattr(room, "BUNDLED", tmp_path / "none")
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: {expected}"


def test_a_file_that_the_system_refuses_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    Path("demo.yaml").write_text("{}")
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(RecipeError, match=r"^demo\.yaml: cannot be read: Permission denied$"):
        load("demo.yaml")
