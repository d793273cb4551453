"""A recipe's data, wherever it lies: embedded, in local files, or on the Hugging Face hub."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from polyrank import seeds
from polyrank.data import digest, docstrings, files, partition
from polyrank.data.dialogues import DIALOGUES
from polyrank.data.examples import Corpus, Examples
from polyrank.data.files import Row
from polyrank.data.labelled import LABELLED
from polyrank.data.raw import Raw, Reader
from polyrank.errors import DataError, RecipeError
from polyrank.recipe.schema import Data
from polyrank.recipe.tasks import Task

HELD_OUT = ("test", "validation", "dev")  # a hub data set's splits, the best first
READERS: Mapping[Task, Reader] = {"classification": LABELLED, "causal-lm": DIALOGUES}


def load(recipe: Data, seed: int, task: Task = "classification") -> Corpus:
    """Read what `recipe` names, hold out a test share if it has none, and apply its caps.

    With evaluate_on: validation, a share of what is left for training then takes the place of the
    test set.

    Args:
        recipe: the data part of a recipe.
        seed: the run's root seed; it draws the held-out shares and the capped samples.
        task: decides what a row is read as.

    Raises:
        DataError: the data is not there or cannot be used; file and line are named.
        RecipeError: one training example, and evaluate_on: validation.
    """
    reader = READERS[task]
    if recipe.path is not None:
        corpus = _local(reader, recipe, recipe.path, seed)
    elif recipe.name == "docstrings":
        corpus = reader.texts(docstrings.corpus())
    else:
        corpus = _hub(reader, recipe, str(recipe.name), seed)
    train = _sample(corpus.train, recipe.train_examples, seed, "train_examples")
    test = _sample(corpus.test, recipe.test_examples, seed, "test_examples")
    if recipe.evaluate_on == "validation":
        if len(train) < 2:
            problem = f"'validation' needs 2 training examples or more, not {len(train)}"
            raise RecipeError("data.evaluate_on", problem)
        train, test = _hold_out(train, recipe.held_out, seed, "selection")
    counts = {"train": len(train), "test": len(test), "classes": len(corpus.labels)}
    return replace(corpus, train=train, test=test, source={**corpus.source, "counts": counts})


def _local(reader: Reader, recipe: Data, path: Path, seed: int) -> Corpus:
    train, test = files.find(path, recipe.test)
    held_out = files.read(test) if test else None
    raw = Raw(str(path), files.read(train), held_out, files.class_names(path))
    hashes = {str(file): digest.of_file(file) for file in (*train, *test)}
    return replace(_corpus(reader, raw, recipe, seed), source={"name": str(path), "sha256": hashes})


def _hub(reader: Reader, recipe: Data, name: str, seed: int) -> Corpus:
    splits = _download(name, recipe.subset)
    if "train" not in splits:
        raise DataError(f"{name!r} has no split 'train', only {', '.join(splits)}")
    held_out = [split for split in HELD_OUT if _labelled(splits.get(split), recipe.label)]
    feature = splits["train"].features.get(recipe.label)
    classes = getattr(feature, "names", None)  # of a ClassLabel
    raw = Raw(
        name=name,
        train=_numbered(name, "train", splits),
        test=_numbered(name, held_out[0], splits) if held_out else None,
        class_names=(repr(name), classes) if classes else None,
    )
    corpus = _corpus(reader, raw, recipe, seed)
    content = digest.of_json([asdict(corpus.train), asdict(corpus.test), corpus.labels])
    return replace(corpus, source={"name": name, "subset": recipe.subset, "sha256": content})


def _download(name: str, subset: str | None) -> Any:
    remedy = "or save it as CSV or JSON lines and give data.path"
    try:
        import datasets  # slow, and an extra
    except ImportError as error:
        problem = f"{name!r} needs the hub: pip install 'polyrank[hub]', {remedy}"
        raise DataError(problem) from error
    try:
        return datasets.load_dataset(name, subset)
    except Exception as error:  # of any library below it: network, parser, file system
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{name!r} could not be loaded ({reason}); try again, {remedy}") from error


def _labelled(split: Any, label: str) -> bool:
    """Whether a split exists and has classes: benchmarks hide those of the test split as -1."""
    if split is None:
        return False
    return label not in split.column_names or any(one not in (None, -1) for one in split[label])


def _numbered(name: str, split: str, splits: Any) -> Iterator[Row]:
    return ((f"{name}[{split}]:{row}", fields) for row, fields in enumerate(splits[split]))


def _corpus(reader: Reader, raw: Raw, recipe: Data, seed: int) -> Corpus:
    read = reader.rows(raw, recipe)
    read = replace(read, train=_of_owners(read.train, recipe.owners))
    if read.test is None:
        held_out = _hold_out(read.train, recipe.held_out, seed, "held_out")
        return Corpus(*held_out, read.classes, {})
    if not len(read.test):
        raise DataError(f"{raw.name}: no examples in the held-out split")
    return Corpus(read.train, read.test, read.classes, {})


def _of_owners(pool: Examples, count: int | None) -> Examples:
    """The examples of the owners that have the most."""
    if count is None or pool.keys is None:
        return pool
    sizes = Counter(pool.keys)
    most = set(sorted(sizes, key=lambda key: (-sizes[key], key))[:count])
    return pool.take([i for i, key in enumerate(pool.keys) if key in most])


def _hold_out(pool: Examples, share: float, seed: int, name: str) -> tuple[Examples, Examples]:
    kept, held_out = partition.hold_out(range(len(pool)), share, seed, name)
    return pool.take(kept), pool.take(held_out)


def _sample(examples: Examples, most: int | None, seed: int, name: str) -> Examples:
    if most is None or most >= len(examples):
        return examples
    order = torch.randperm(len(examples), generator=seeds.derive(seed, name)).tolist()
    return examples.take(sorted(order[:most]))
