"""What a recipe's run works with: the model, the texts, and who holds which of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polyrank import ranks
from polyrank.client.model import Workbench, dense, longest_text
from polyrank.client.model import load as load_model
from polyrank.data import partition, source
from polyrank.data.batches import Tokens, tokenize
from polyrank.data.examples import Corpus
from polyrank.errors import DataError, RecipeError
from polyrank.lora.factor import Dense
from polyrank.messages import Client
from polyrank.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Setup:
    """Model and data, as several runs can share them.

    Args:
        bench: the base model, with places for factors.
        corpus: the texts and their classes.
        train: all training examples as tokens.
        test: the held-out ones.
        parts: by client id, the indices of its own training examples.
        dense: the tensors trained whole, as they start.
    """

    bench: Workbench
    corpus: Corpus
    train: Tokens
    test: Tokens
    parts: Mapping[str, Sequence[int]]
    dense: Dense

    def histogram(self, id: str) -> list[int]:
        """How many examples of each class a client holds."""
        count = Counter(self.corpus.train.labels[i] for i in self.parts[id])
        return [count[c] for c in range(len(self.corpus.labels))]


def prepare(recipe: Recipe) -> Setup:
    """Load the model and the data, and spread the data over the clients."""
    corpus = source.load(recipe.data, recipe.seed)
    bench = load_model(recipe.model, corpus.labels, recipe.lora, recipe.seed)
    _check_length(recipe, bench)
    parts = partition.partition(
        corpus.train.labels,
        corpus.train.keys,
        recipe.data.partition,
        recipe.data.clients,
        recipe.seed,
    )
    ids = partition.names(corpus.train.keys, recipe.data.partition, recipe.data.clients)
    return Setup(
        bench,
        corpus,
        tokenize(bench.tokenizer, corpus.train, recipe.data.max_length),
        tokenize(bench.tokenizer, corpus.test, recipe.data.max_length),
        dict(zip(ids, parts, strict=True)),
        dense(bench),
    )


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
    return repr((recipe.model, recipe.data, lora, recipe.seed))


def roster(recipe: Recipe, setup: Setup) -> tuple[list[Client], dict[str, str]]:
    """(clients that can train, why others cannot), each client with its rank.

    Raises:
        DataError: no client has any examples.
    """
    assigned = ranks.assign(recipe.lora.ranks, len(setup.parts), recipe.seed)
    pairs = zip(setup.parts, assigned, strict=True)
    clients = [Client(id, rank) for id, rank in pairs if setup.parts[id]]
    idle = {id: "no examples" for id, part in setup.parts.items() if not part}
    if not clients:
        raise DataError("no client has any examples; check data and data.partition")
    return clients, idle
