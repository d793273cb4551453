"""What a recipe's run works with: the model, the texts, and who holds which of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from polyrank.client import activations
from polyrank.client.checkpointing import checkpoint
from polyrank.client.first_token import shorten
from polyrank.client.job import Share
from polyrank.client.memory import Profile, profile
from polyrank.client.model import Workbench, longest_text, template
from polyrank.client.model import load as load_model
from polyrank.client.placing import dense
from polyrank.client.prefix import cached
from polyrank.client.sparing import spare
from polyrank.data import partition, source, tokens
from polyrank.data.batches import Tokens
from polyrank.data.examples import Dialogue, Examples
from polyrank.data.parts import Parts, joined
from polyrank.errors import DataError, RecipeError
from polyrank.lora.factor import Dense, parameters
from polyrank.messages import Client
from polyrank.ranks import assign, by_budget, memories
from polyrank.recipe import Recipe
from polyrank.recipe.codecs import codec
from polyrank.recipe.policies import Budget, Memory

Indices = Int64[np.ndarray, " _"]


@dataclass(frozen=True, slots=True)
class Setup:
    """Model and data, as several runs can share them.

    Args:
        bench: the base model, with places for factors.
        classes: their names.
        source: where the texts come from, as JSON for the records.
        train: all training examples as tokens.
        test: the held-out ones.
        parts: by client id, the indices of its own training examples.
        validation: by client id, the indices in `train` that it keeps and never trains on.
        dense: the tensors trained whole, as they start.
        elsewhere: by the id of a client whose data is not here, its examples by class.
        notes: what was done where data or model say nothing, as lines.
        asked: held-out dialogues that a language model is to answer.
    """

    bench: Workbench
    classes: tuple[str, ...]
    source: Mapping[str, Any]
    train: Tokens
    test: Tokens
    parts: Parts
    validation: Mapping[str, Tensor]
    dense: Dense
    elsewhere: Mapping[str, Sequence[int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    asked: tuple[Dialogue, ...] = ()

    def share(self, id: str) -> Share:
        """A client's own examples."""
        return Share(self.train, self.parts[id], self.validation[id])

    def histogram(self, id: str) -> list[int]:
        """How many examples of each class a client trains on."""
        if id in self.elsewhere:
            return list(self.elsewhere[id])
        own = self.train.labels[self.parts[id]]
        return torch.bincount(own, minlength=len(self.classes)).tolist()


def prepare(recipe: Recipe) -> Setup:
    """Load the model and the data, and spread the data over the clients."""
    corpus = source.load(recipe.data, recipe.seed, recipe.task)
    bench = workbench(recipe, corpus.labels)
    parts, validation = _spread(recipe, corpus.train)
    train, test = (tokenized(recipe, bench, examples) for examples in (corpus.train, corpus.test))
    told = bench.objective.told(bench.tokenizer, corpus.train, recipe.data, train, test)
    return Setup(
        bench, corpus.labels, {**corpus.source, **told.facts}, train, test, parts, validation,
        dense(bench), notes=(*bench.notes, *told.lines), asked=_asked(recipe, corpus.test),
    )  # fmt: skip


def workbench(recipe: Recipe, classes: Sequence[str]) -> Workbench:
    """The recipe's model for these classes, the same on every machine."""
    how = (recipe.lora, recipe.seed, recipe.task, recipe.engine)
    bench = load_model(recipe.model, classes, *how)
    if recipe.engine.checkpointing:
        checkpoint(bench)
    _check_length(recipe, bench)
    # What is kept of a text is of the whole last block.
    if recipe.cache == "off" and bench.objective.headed:
        shorten(bench)
    if not bench.objective.headed:
        spare(bench)
    return bench


def tokenized(recipe: Recipe, bench: Workbench, examples: Examples) -> Tokens:
    """The examples as tokens, with what the recipe computes of them once."""
    found = bench.objective.tokens(bench.tokenizer, examples, recipe.data, tokens.folder())
    if recipe.cache != "off":
        bench.cached[id(found)] = cached(bench, recipe.cache, found, activations.folder())
    return found


def _asked(recipe: Recipe, test: Examples) -> tuple[Dialogue, ...]:
    how = recipe.generation
    count = max(how.samples, how.examples if how.metrics else 0)
    dialogues: tuple[Any, ...] = test.texts
    return dialogues[:count] if recipe.task == "causal-lm" else ()


def _spread(recipe: Recipe, train: Examples) -> tuple[Parts, Mapping[str, Tensor]]:
    """By client id: what it trains on, and what it measures itself on."""
    data, seed = recipe.data, recipe.seed
    if data.validation_set == "shared":
        own, shared = partition.hold_out(range(len(train)), data.validation, seed, "validation")
        ids, held = _partitioned(recipe, train.take(own))
        theirs = torch.tensor(shared, dtype=torch.int64)
        return joined(ids, [np.array(own)[places] for places in held]), dict.fromkeys(ids, theirs)
    ids, held = _partitioned(recipe, train)
    if not data.validation:
        return joined(ids, held), joined(ids, [[] for _ in ids])
    kept, aside = zip(*(
        partition.hold_out(places.tolist(), data.validation, seed, "validation", id)
        for id, places in zip(ids, held, strict=True)
    ), strict=True)  # fmt: skip
    return joined(ids, kept), joined(ids, aside)


def _partitioned(recipe: Recipe, pool: Examples) -> tuple[list[str], list[Indices]]:
    """Every client's id, and which of these examples it holds."""
    kind, clients = recipe.data.partition, recipe.data.clients
    held = partition.partition(pool.labels, pool.keys, kind, clients, recipe.seed)
    return partition.names(pool.keys, kind, clients), held


def _check_length(recipe: Recipe, bench: Workbench) -> None:
    longest = longest_text(bench)
    if longest is not None and recipe.data.max_length > longest:
        raise RecipeError(
            "data.max_length",
            f"{recipe.data.max_length} tokens are more than the model takes; at most {longest}",
        )


def text_length(recipe: Recipe) -> int:
    """The tokens of a text that go through the model, at most."""
    return 1 if recipe.cache == "first-token" else recipe.data.max_length


def shared(recipe: Recipe) -> str:
    """Recipes of the same words here can share a Setup."""
    lora = recipe.lora.model_copy(
        update={"ranks": 1, "scale": None, "alpha": None, "rslora": False}
    )
    engine = (recipe.engine.dtype, recipe.engine.base, recipe.engine.checkpointing)
    model = (recipe.task, recipe.model, recipe.cache, engine)
    return repr((*model, recipe.data, recipe.generation, lora, recipe.seed))


def roster(recipe: Recipe, setup: Setup) -> tuple[list[Client], dict[str, str]]:
    """(clients that can train, why others cannot), each client with its rank.

    Raises:
        DataError: no client has any examples.
        RecipeError: no ranks fit the budget or the memory.
    """
    sizes = setup.parts.sizes()
    able = {id: n for id, n in sizes.items() if n}
    idle = {id: "no examples" for id, n in sizes.items() if not n}
    if not able:
        raise DataError("no client has any examples; check data and data.partition")
    found = _ranks(recipe, setup, able)
    return [Client(id, found[id], examples=n) for id, n in able.items()], idle


def moments(recipe: Recipe) -> int:
    """Tensors that the clients' optimizer keeps per parameter."""
    return 2 if recipe.local.optimizer == "adamw" else int(recipe.local.momentum > 0)


def unit(recipe: Recipe, setup: Setup) -> tuple[int, int, float]:
    """(parameters of a unit of rank, the largest rank of the layers, bytes of a parameter)."""
    layers = template(setup.bench, 1).values()
    most = min(min(f.shape) for f in layers)
    return sum(map(parameters, layers)), most, codec(recipe.wire.up).bytes


def step(recipe: Recipe, setup: Setup) -> Profile:
    """What memory a training step takes."""
    return profile(setup.bench, recipe.local.batch, recipe.data.max_length, moments(recipe))


def _ranks(recipe: Recipe, setup: Setup, able: Mapping[str, int]) -> dict[str, int]:
    """Every client's rank, by id."""
    spec, ids = recipe.lora.ranks, list(setup.parts)
    if isinstance(spec, Budget):
        found = by_budget(spec, list(able.values()), *unit(recipe, setup))
        return dict(zip(able, found, strict=True))
    if isinstance(spec, Memory):
        needs = step(recipe, setup)
        sizes = dict(zip(ids, memories(spec, len(ids), recipe.seed), strict=True))
        return {id: needs.largest(sizes[id], spec.most) for id in able}
    return dict(zip(ids, assign(spec, len(ids), recipe.seed), strict=True))
