"""The task classification: one prediction for each text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from polyrank.client.objective import Marks, Metric, Told
from polyrank.client.pretrained import Pretrained, open_model
from polyrank.data.batches import Batch, Tokens
from polyrank.data.examples import Examples
from polyrank.data.tokens import tokenize
from polyrank.recipe.schema import Data, Engine


@dataclass(frozen=True, slots=True)
class Classifying:
    """Texts into classes, by a head on the model."""

    classes: tuple[str, ...]
    metric: ClassVar[Metric] = "accuracy"
    headed: ClassVar[bool] = True
    kind: ClassVar[str] = "SEQ_CLS"

    def open(self, name: str, seed: int, engine: Engine) -> Pretrained:
        return open_model(name, self.classes, seed, engine)

    def tokens(
        self, tokenizer: Any, examples: Examples, recipe: Data, store: Path | None
    ) -> Tokens:
        return tokenize(tokenizer, examples, recipe.max_length, store)

    def told(
        self, tokenizer: Any, examples: Examples, recipe: Data, train: Tokens, test: Tokens
    ) -> Told:
        return Told({}, ())

    def losses(
        self, out: Float[Tensor, "rows classes"], batch: Batch
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        each = cross_entropy(out, batch.labels, reduction="none")
        return each, torch.ones_like(each)

    def hits(self, out: Float[Tensor, "rows classes"], batch: Batch) -> Float[Tensor, " rows"]:
        return (out.argmax(dim=1) == batch.labels).float()

    def predictions(
        self, out: Float[Tensor, "rows classes"], batch: Batch, rows: Bool[Tensor, " rows"]
    ) -> Float[Tensor, "predictions classes"]:
        return out[rows]

    def targets(self, input_ids: Int64[Tensor, "rows length"]) -> Int64[Tensor, " rows"]:
        return torch.zeros(len(input_ids), dtype=torch.int64)

    def by_class(self, marks: Marks) -> tuple[float, ...]:
        count = torch.bincount(marks.labels, minlength=len(self.classes))
        right = torch.bincount(marks.labels, weights=marks.hits, minlength=len(self.classes))
        return tuple(float(x) for x in right / count)
