"""What a recipe's run works with: the model, the texts, and who holds which of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from polyrank.client import activations
from polyrank.client.memory import profile
from polyrank.client.model import Workbench, longest_text, template
from polyrank.client.model import load as load_model
from polyrank.client.placing import dense
from polyrank.client.precision import narrow
from polyrank.client.prefix import cached
from polyrank.data import partition, source
from polyrank.data.batches import Tokens, tokenize
from polyrank.data.examples import Corpus, Examples
from polyrank.errors import DataError, RecipeError
from polyrank.lora.factor import Dense, parameters
from polyrank.messages import Client
from polyrank.ranks import assign, by_budget, memories
from polyrank.recipe import Recipe
from polyrank.recipe.policies import Budget, Memory


@dataclass(frozen=True, slots=True)
class Setup:
    """Model and data, as several runs can share them.

    Args:
        bench: the base model, with places for factors.
        corpus: the texts and their classes.
        train: all training examples as tokens.
        test: the held-out ones.
        parts: by client id, the indices of its own training examples.
        validation: by client id, the indices in `train` that it keeps and never trains on.
        dense: the tensors trained whole, as they start.
    """

    bench: Workbench
    corpus: Corpus
    train: Tokens
    test: Tokens
    parts: Mapping[str, Sequence[int]]
    validation: Mapping[str, Sequence[int]]
    dense: Dense

    def histogram(self, id: str) -> list[int]:
        """How many examples of each class a client trains on."""
        count = Counter(self.corpus.train.labels[i] for i in self.parts[id])
        return [count[c] for c in range(len(self.corpus.labels))]


def prepare(recipe: Recipe) -> Setup:
    """Load the model and the data, and spread the data over the clients."""
    corpus = source.load(recipe.data, recipe.seed)
    bench = load_model(recipe.model, corpus.labels, recipe.lora, recipe.seed)
    narrow(bench, getattr(torch, recipe.engine.dtype))
    _check_length(recipe, bench)
    parts, validation = _spread(recipe, corpus.train)
    train, test = (
        tokenize(bench.tokenizer, examples, recipe.data.max_length)
        for examples in (corpus.train, corpus.test)
    )
    if recipe.cache != "off":
        for tokens in (train, test):
            bench.cached[id(tokens)] = cached(bench, recipe.cache, tokens, activations.folder())
    return Setup(bench, corpus, train, test, parts, validation, dense(bench))


def _spread(recipe: Recipe, train: Examples) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """By client id: what it trains on, and what it measures itself on."""
    data, seed = recipe.data, recipe.seed
    own, shared = list(range(len(train))), list[int]()
    if data.validation_set == "shared":
        own, shared = partition.hold_out(own, data.validation, seed, "validation")
    pool = train.take(own)
    held = partition.partition(pool.labels, pool.keys, data.partition, data.clients, seed)
    ids = partition.names(pool.keys, data.partition, data.clients)
    parts, validation = {}, {}
    for id, places in zip(ids, held, strict=True):
        mine = [own[place] for place in places]
        parts[id], validation[id] = (
            (mine, shared)
            if data.validation_set == "shared"
            else partition.hold_out(mine, data.validation, seed, "validation", id)
        )
    return parts, validation


def _check_length(recipe: Recipe, bench: Workbench) -> None:
    longest = longest_text(bench)
    if longest is not None and recipe.data.max_length > longest:
        raise RecipeError(
            "data.max_length",
            f"{recipe.data.max_length} tokens are more than the model takes; at most {longest}",
        )


def shared(recipe: Recipe) -> str:
    """Recipes of the same words here can share a Setup."""
    lora = recipe.lora.model_copy(
        update={"ranks": 1, "scale": None, "alpha": None, "rslora": False}
    )
    return repr((recipe.model, recipe.cache, recipe.engine.dtype, recipe.data, lora, recipe.seed))


def roster(recipe: Recipe, setup: Setup) -> tuple[list[Client], dict[str, str]]:
    """(clients that can train, why others cannot), each client with its rank.

    Raises:
        DataError: no client has any examples.
        RecipeError: no ranks fit the budget or the memory.
    """
    able = {id: len(part) for id, part in setup.parts.items() if part}
    idle = {id: "no examples" for id, part in setup.parts.items() if not part}
    if not able:
        raise DataError("no client has any examples; check data and data.partition")
    found = _ranks(recipe, setup, able)
    return [Client(id, found[id], examples=n) for id, n in able.items()], idle


def moments(recipe: Recipe) -> int:
    """Tensors that the clients' optimizer keeps per parameter."""
    return 2 if recipe.local.optimizer == "adamw" else int(recipe.local.momentum > 0)


def _ranks(recipe: Recipe, setup: Setup, able: Mapping[str, int]) -> dict[str, int]:
    """Every client's rank, by id."""
    spec, ids = recipe.lora.ranks, list(setup.parts)
    if isinstance(spec, Budget):
        layers = template(setup.bench, 1).values()
        unit, most = sum(map(parameters, layers)), min(min(f.shape) for f in layers)
        return dict(zip(able, by_budget(spec, list(able.values()), unit, most), strict=True))
    if isinstance(spec, Memory):
        needs = profile(setup.bench, recipe.local.batch, recipe.data.max_length, moments(recipe))
        sizes = dict(zip(ids, memories(spec, len(ids), recipe.seed), strict=True))
        return {id: needs.largest(sizes[id], spec.most) for id in able}
    return dict(zip(ids, assign(spec, len(ids), recipe.seed), strict=True))
