"""The papers' data sets, cut to a fixed size: from a folder of local copies, or from the hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from polyrank import files
from polyrank.data import cache, digest, source
from polyrank.data.examples import Examples
from polyrank.errors import DataError
from polyrank.recipe.schema import Data

FOLDER = Path("../shared/data")  # where local copies are looked for, one folder each


class Source(NamedTuple):
    """Where a data set is found.

    Args:
        local: the recipe's data keys for a local copy, paths within its folder.
        hub: the same for the Hugging Face hub.
    """

    local: dict[str, str]
    hub: dict[str, str]


SOURCES = {
    "ag_news": Source({"path": ""}, {"name": "fancyzhx/ag_news"}),
    "dbpedia14": Source({"path": ""}, {"name": "fancyzhx/dbpedia_14", "text": "content"}),
    "banking77": Source({"path": ""}, {"name": "PolyAI/banking77"}),
    "sst2": Source(
        {"path": "train.jsonl.gz", "test": "dev_872.jsonl.gz"},
        {"name": "stanfordnlp/sst2", "text": "sentence"},
    ),
    "mrpc": Source(
        {"path": "", "text": "text, text_pair"},
        {"name": "nyu-mll/glue", "subset": "mrpc", "text": "sentence1, sentence2"},
    ),
    "rte": Source(
        {"path": "", "text": "text, text_pair"},
        {"name": "nyu-mll/glue", "subset": "rte", "text": "sentence1, sentence2"},
    ),
}


def subset(name: str, folder: Path, train: int, test: int) -> Path:
    """A folder with at most `train` and `test` examples of a data set, the same on every call.

    Args:
        name: of the data set; "docstrings" is the embedded one.
        folder: local copies, one folder for each data set.
        train: training examples.
        test: held-out examples.

    Raises:
        DataError: there is no local copy and the hub cannot be reached.
    """
    recipe = Data.model_validate({**_where(name, folder), **_caps(train, test)})
    made = cache.folder() / "reproduce" / f"{name}-{digest.of_json(_caps(train, test))[:12]}"
    if not made.exists():
        corpus = source.load(recipe, seed=0)
        contents = {
            "train.jsonl": _lines(corpus.train, corpus.labels),
            "test.jsonl": _lines(corpus.test, corpus.labels),
        }
        files.write_folder(made, contents)
    return made


def available(names: Sequence[str], folder: Path) -> list[str]:
    """Those of the data sets that have a local copy."""
    return [name for name in names if (folder / name).is_dir()]


def _caps(train: int, test: int) -> dict[str, int]:
    return {"train_examples": train, "test_examples": test}


def _where(name: str, folder: Path) -> dict[str, str]:
    if name == "docstrings":
        return {"name": name}
    if name not in SOURCES:
        raise DataError(f"no data set {name!r}; there are {', '.join(SOURCES)}")
    found = SOURCES[name]
    if not (folder / name).is_dir():
        return found.hub
    paths = {k: str(folder / name / v) for k, v in found.local.items() if k in ("path", "test")}
    return {**found.local, **paths}


def _lines(examples: Examples, labels: Sequence[str]) -> bytes:
    rows = zip(examples.texts, examples.labels, strict=True)
    lines = [json.dumps({"text": text, "label": labels[label]}) + "\n" for text, label in rows]
    return "".join(lines).encode()
