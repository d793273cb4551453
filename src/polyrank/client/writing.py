"""The task causal-lm: a prediction for each token that is to be learned.

loss of a client's batch = Σ_t −ln p(x_t | x_<t) / T,   t over the T marked tokens of the batch
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from polyrank.client.objective import Marks, Metric, Told
from polyrank.client.pretrained import Pretrained, open_writer
from polyrank.data.batches import Batch, Tokens
from polyrank.data.examples import Examples
from polyrank.data.spoken import cut, tokenize
from polyrank.data.templates import choose
from polyrank.recipe.schema import Data, Engine


@dataclass(frozen=True, slots=True)
class Writing:
    """The next token of a text; classes are categories of texts, which the model is not told."""

    classes: tuple[str, ...]
    metric: ClassVar[Metric] = "loss"
    headed: ClassVar[bool] = False
    kind: ClassVar[str] = "CAUSAL_LM"

    def open(self, name: str, seed: int, engine: Engine) -> Pretrained:
        return open_writer(name, seed, engine)

    def tokens(
        self, tokenizer: Any, examples: Examples, recipe: Data, store: Path | None
    ) -> Tokens:
        return tokenize(tokenizer, examples, recipe, store)

    def told(
        self, tokenizer: Any, examples: Examples, recipe: Data, train: Tokens, test: Tokens
    ) -> Told:
        dialogues: Sequence[Any] = examples.texts
        template = choose(tokenizer, recipe.template, dialogues).name
        facts: dict[str, Any] = {"template": template}
        lines = []
        if recipe.template is None and template == "alpaca":
            lines.append(f"the tokenizer has no chat template: {template} is used (data.template)")
        for name, tokens in (("training", train), ("held-out", test)):
            count, longest = cut(tokens)
            facts[name] = {"tokens": len(tokens.ids), "cut": count, "longest": longest}
            if count:
                lines.append(
                    f"{count:,} of {len(tokens):,} {name} examples are longer than "
                    f"{recipe.max_length} tokens (the longest {longest:,}) and were cut"
                )
        return Told(facts, tuple(lines))

    def losses(
        self, out: Float[Tensor, "rows length words"], batch: Batch
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        learned, counts = _learned(batch)
        each = cross_entropy(
            out[:, :-1][learned], batch.input_ids[:, 1:][learned], reduction="none"
        )
        return _by_row(each, learned), counts

    def hits(self, out: Float[Tensor, "rows length words"], batch: Batch) -> Float[Tensor, " rows"]:
        learned, _ = _learned(batch)
        right = out[:, :-1][learned].argmax(dim=1) == batch.input_ids[:, 1:][learned]
        return _by_row(right.float(), learned)

    def predictions(
        self, out: Float[Tensor, "rows length words"], batch: Batch, rows: Bool[Tensor, " rows"]
    ) -> Float[Tensor, "predictions words"]:
        learned, _ = _learned(batch)
        return out[:, :-1][learned & rows[:, None]]

    def targets(self, input_ids: Int64[Tensor, "rows length"]) -> Int64[Tensor, "rows length"]:
        return input_ids

    def by_class(self, marks: Marks) -> tuple[float, ...]:
        losses, counts = (
            torch.bincount(marks.labels, weights=t.double(), minlength=len(self.classes))
            for t in (marks.losses, marks.counts)
        )
        return tuple(float(x) for x in losses / counts)


def _learned(batch: Batch) -> tuple[Bool[Tensor, "rows places"], Float[Tensor, " rows"]]:
    """By position, whether the token after it is to be learned; and how many are, by row."""
    assert batch.counted is not None
    learned = batch.counted[:, 1:]
    return learned, learned.sum(dim=1).float()


def _by_row(
    each: Float[Tensor, " predictions"], learned: Bool[Tensor, "rows places"]
) -> Float[Tensor, " rows"]:
    """Sums of what there is for each prediction."""
    rows = learned.nonzero()[:, 0]
    return each.new_zeros(len(learned)).index_add(0, rows, each)
