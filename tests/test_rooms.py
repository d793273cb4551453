"""Each outside word is spoken in one room only, so that a line's place can be guessed from it."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src/polyrank"
ROOMS = {
    "peft": {"lora/peft.py", "experiment/single.py"},  # the latter calls our own module
    "datasets": {"data/source.py"},
    "bitsandbytes": {"client/quantised.py"},
    "flwr": {"flower"},
    "plotly": {"report"},
    "tensorboard": {"track/tensorboard.py"},
    "wandb": {"track/wandb.py"},
    "mlflow": {"track/mlflow.py"},
    "typer": {"cli"},
    "rich": {"cli"},
    "print": {"cli"},
    "linalg": {
        "lora/algebra.py",
        "lora/coverage.py",
        "lora/krylov.py",
        "lora/spectral.py",
    },
    "hashlib": {"seeds.py", "client/pretrained.py"},
    "manual_seed": {"seeds.py"},
    "backward": {"client/training.py", "client/choice.py", "client/pretraining.py"},
    "AdamW": {"client/training.py", "client/pretraining.py"},
    "pickle": set(),
    "eval": {"client"},  # net.eval(), never the builtin
    "exec": set(),
}


def words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, word) of every name, attribute and import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, (node.module or "").split(".")[0]


def test_words_stay_in_their_rooms() -> None:
    strays = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = str(path.relative_to(SOURCE))
        for line, word in words(ast.parse(path.read_text())):
            rooms = ROOMS.get(word)
            if rooms is not None and not any(name == r or name.startswith(f"{r}/") for r in rooms):
                strays.append(f"{name}:{line} says {word}")
    assert not strays


def test_files_stay_small() -> None:
    long = {
        str(path.relative_to(SOURCE)): count
        for path in SOURCE.rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 240
    }
    assert not long
