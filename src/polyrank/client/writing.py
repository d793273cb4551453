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
        self, out: Float[Tensor, "predictions words"], batch: Batch
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        learned = marks(batch)
        each = cross_entropy(out, batch.input_ids[:, 1:][learned], reduction="none")
        return _by_row(each, learned), learned.sum(dim=1).float()

    def hits(self, out: Float[Tensor, "predictions words"], batch: Batch) -> Float[Tensor, " rows"]:
        learned = marks(batch)
        right = out.argmax(dim=1) == batch.input_ids[:, 1:][learned]
        return _by_row(right.float(), learned)

    def predictions(
        self, out: Float[Tensor, "predictions words"], batch: Batch, rows: Bool[Tensor, " rows"]
    ) -> Float[Tensor, "some words"]:
        return out[rows[marks(batch).nonzero()[:, 0]]]

    def targets(self, input_ids: Int64[Tensor, "rows length"]) -> Int64[Tensor, "rows length"]:
        return input_ids

    def by_class(self, marks: Marks) -> tuple[float, ...]:
        losses, counts = (
            torch.bincount(marks.labels, weights=t.double(), minlength=len(self.classes))
            for t in (marks.losses, marks.counts)
        )
        return tuple(float(x) for x in losses / counts)


def marks(batch: Batch) -> Bool[Tensor, "rows places"]:
    """By position, but for the last one, whether the token after it is to be learned."""
    assert batch.counted is not None
    return batch.counted[:, 1:]


def chosen(
    out: Float[Tensor, "rows length words"], batch: Batch
) -> Float[Tensor, "predictions words"]:
    """The logits of the predictions among those at all positions: row by row, in their order."""
    return out[:, :-1][marks(batch)]


def at_marks(net: Any, batch: Batch) -> Float[Tensor, "predictions words"]:
    """The same, from an output layer that sees the marked positions alone."""
    learned = marks(batch)

    def cut(module: Any, args: Any) -> Any:
        return (args[0][:, :-1][learned][None], *args[1:])

    handle = net.get_output_embeddings().register_forward_pre_hook(cut)
    try:
        out = net(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    finally:
        handle.remove()
    found: Tensor = out.logits[0]
    return found


def _by_row(
    each: Float[Tensor, " predictions"], learned: Bool[Tensor, "rows places"]
) -> Float[Tensor, " rows"]:
    """Sums of what there is for each prediction."""
    rows = learned.nonzero()[:, 0]
    return each.new_zeros(len(learned)).index_add(0, rows, each)
