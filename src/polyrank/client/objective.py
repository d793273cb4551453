"""What a model is trained for: where its loss comes from, and what a good model is.

One object for each task (`classifying.py`, `writing.py`); everything else is the same under both.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from polyrank.client.pretrained import Pretrained
from polyrank.data.batches import Batch, Tokens
from polyrank.data.examples import Examples
from polyrank.recipe.schema import Data, Engine

Metric = Literal["accuracy", "loss"]


class Marks(NamedTuple):
    """By example: its class, the sum of its losses, of how many predictions, and how many of them
    are right."""

    labels: Int64[Tensor, " rows"]
    losses: Float[Tensor, " rows"]
    counts: Float[Tensor, " rows"]
    hits: Float[Tensor, " rows"]


class Told(NamedTuple):
    """What is worth knowing of a run's tokens: as JSON for the records, and as lines to be read."""

    facts: dict[str, Any]
    lines: tuple[str, ...]


@runtime_checkable
class Objective(Protocol):
    """A task, for examples of these classes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        ...

    @property
    def metric(self) -> Metric:
        """What a model is judged by."""
        ...

    @property
    def headed(self) -> bool:
        """Whether the model ends in a classification head, which reads one token or all."""
        ...

    @property
    def kind(self) -> str:
        """What an adapter's configuration calls the task."""
        ...

    def open(self, name: str, seed: int, engine: Engine) -> Pretrained:
        """Load a model by name; parameters that its files lack are drawn by seed."""
        ...

    def tokens(
        self, tokenizer: Any, examples: Examples, recipe: Data, store: Path | None
    ) -> Tokens:
        """The examples as tokens; `store` is a folder where they are kept."""
        ...

    def told(
        self, tokenizer: Any, examples: Examples, recipe: Data, train: Tokens, test: Tokens
    ) -> Told:
        """What became of the examples on their way to tokens."""
        ...

    def losses(
        self, out: Tensor, batch: Batch
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        """By row of a batch the sum of its losses, and of how many predictions."""
        ...

    def hits(self, out: Tensor, batch: Batch) -> Float[Tensor, " rows"]:
        """By row of a batch, how many predictions are right."""
        ...

    def predictions(
        self, out: Tensor, batch: Batch, rows: Bool[Tensor, " rows"]
    ) -> Float[Tensor, "predictions classes"]:
        """Those of the batch's logits that are of these rows."""
        ...

    def targets(self, input_ids: Int64[Tensor, "rows length"]) -> Int64[Tensor, "..."]:
        """Any labels for such a batch, as the model itself takes them."""
        ...

    def by_class(self, marks: Marks) -> tuple[float, ...]:
        """The metric on the examples of each class; NaN where there are none."""
        ...


def joined(marks: Sequence[Marks]) -> Marks:
    """The marks of all, one after another."""
    return Marks(*(torch.cat(column) for column in zip(*marks, strict=True)))
