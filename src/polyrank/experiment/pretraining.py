"""The embedded language model: a small Llama that learns from docstrings of half the libraries.

Those of the other half are new to it: what a federation over all of them has to teach.
"""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from polyrank import files
from polyrank.client import pretraining
from polyrank.client.pretrained import small_llama
from polyrank.client.quieting import quiet
from polyrank.data import docstrings
from polyrank.data.dialogues import DIALOGUES
from polyrank.data.examples import Examples
from polyrank.data.spoken import tokenize
from polyrank.errors import DataError, StorageError
from polyrank.experiment.facts import versions
from polyrank.recipe.schema import Data

LIBRARIES = ("python", "numpy", "scipy", "torch", "transformers")
STEPS = 2000
BATCH = 16
LR = 5e-3


def make(
    steps: int = STEPS,
    overwrite: bool = False,
    tell: Callable[[int, float], None] = lambda step, loss: None,
) -> tuple[Path, float]:
    """Train the model and keep it where recipes find it.

    Args:
        steps: of the optimizer.
        overwrite: make it anew where it is there already.
        tell: hears of each step and its loss.

    Returns:
        Its folder, and its loss per token on held-out docstrings of the same libraries.

    Raises:
        StorageError: it is there already, or cannot be written.
        DataError: none of the libraries is installed.
    """
    folder = small_llama()
    if folder.exists() and not overwrite:
        raise StorageError(f"{folder} is there already; --overwrite makes it anew")
    corpus = docstrings.corpus()
    known = [i for i, name in enumerate(corpus.labels) if name in LIBRARIES]
    if not known:
        raise DataError(f"none of {', '.join(LIBRARIES)} is installed with its source")
    train, test = (_of(one, known) for one in (corpus.train, corpus.test))
    tokenizer = pretraining.tokenizer(map(str, train.texts))
    as_dialogues = DIALOGUES.texts(type(corpus)(train, test, corpus.labels, {}))
    recipe = Data(max_length=pretraining.LENGTH)
    learn, judge = (
        tokenize(tokenizer, own, recipe) for own in (as_dialogues.train, as_dialogues.test)
    )
    net = pretraining.untrained(0)
    pretraining.pretrain(net, learn, steps, BATCH, LR, 0, tell)
    loss = pretraining.loss(net, judge, BATCH)
    facts = {
        "steps": steps, "batch": BATCH, "lr": LR, "texts": len(train), "loss": loss,
        "libraries": [corpus.labels[i] for i in known], "versions": versions(),
        "corpus": corpus.source,
    }  # fmt: skip
    with TemporaryDirectory(prefix="polyrank-") as made, quiet():
        net.save_pretrained(made)
        tokenizer.save_pretrained(made)
        contents = {path.name: path.read_bytes() for path in Path(made).iterdir()}
    contents["pretraining.json"] = (json.dumps(facts, indent=1) + "\n").encode()
    files.write_folder(folder, contents)
    return folder, loss


def _of(examples: Examples, labels: list[int]) -> Examples:
    return examples.take([i for i, label in enumerate(examples.labels) if label in labels])
