"""A language model's output layer needs no other tokens than those to be learned.

What enters it is cut down to the T marked tokens of a batch: T·|V| logits in the place of
rows·length·|V|, forth and back, and the same numbers.
"""

from dataclasses import replace

import torch

from polyrank.client.comparing import texts
from polyrank.client.model import Workbench, tolerance
from polyrank.client.writing import at_marks, chosen
from polyrank.data.batches import in_order
from polyrank.seeds import derive


def spare(bench: Workbench) -> bool:
    """Compute the output layer at marked tokens alone, if the logits stay the same.

    Args:
        bench: the model; its mode is evaluation afterwards.

    Returns:
        Whether it was done; a model with which it cannot be says so in the bench's notes.
    """
    reason = _hindrance(bench)
    bench.sparing = reason is None
    if reason is not None:
        line = "this model's logits are computed at all tokens, not only at those to be learned"
        bench.notes = (*bench.notes, f"{line}: {reason}")
    return bench.sparing


@torch.no_grad()
def _hindrance(bench: Workbench) -> str | None:
    """Why the model cannot do without the other tokens; None where it can, as compared."""
    tokens = texts(bench)
    marks = torch.rand(len(tokens.ids), generator=derive(0, "sparing")) < 0.5
    (batch,) = in_order(replace(tokens, counted=marks), len(tokens))
    bench.net.train(False)
    whole = bench.net(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    wanted = chosen(whole, batch)
    try:
        found = at_marks(bench.net, batch)
    except (RuntimeError, IndexError, AttributeError, TypeError, ValueError) as error:
        return f"its output layer is called otherwise ({type(error).__name__})"
    if found.shape != wanted.shape:
        return f"its output has the shape {tuple(found.shape)}, not {tuple(wanted.shape)}"
    difference = float((found - wanted).abs().max() / whole.abs().max())
    return None if difference < tolerance(bench) else f"they differ by {difference:.1g}"
