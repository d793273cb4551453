"""A classifier of the first token needs no other in the last block's feed-forward part.

What leaves the last attention is cut down to the first token: a tenth of a step's arithmetic less,
and the same logits.
"""

from typing import Any

from torch import Tensor

from polyrank.client.comparing import difference, texts
from polyrank.client.cut import all_blocks, attention_end
from polyrank.client.model import Workbench, tolerance
from polyrank.data.batches import Batch
from polyrank.errors import RecipeError


def shorten(bench: Workbench) -> bool:
    """Compute the last feed-forward part for the first token alone, if the logits stay the same.

    Args:
        bench: the model; its places for factors are empty afterwards, and its mode is evaluation.

    Returns:
        Whether it was done; a model that looks at other tokens too stays as it is.
    """
    try:
        last = all_blocks(bench.net)[1][-1]
    except RecipeError:
        return False
    if (name := attention_end(last)) is None:
        return False
    handles = []

    def short(batch: Batch) -> Tensor:
        handles.append(last.get_submodule(name).register_forward_hook(_first))
        out = bench.net(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        logits: Tensor = out.logits
        return logits

    try:
        same = difference(bench, texts(bench), short) < tolerance(bench)
    except (RuntimeError, IndexError):  # a model that needs the other tokens' places
        same = False
    for handle in handles if not same else ():
        handle.remove()
    return same


def _first(module: Any, args: Any, out: Any) -> Any:
    # A module-level function, so that copies of the model keep it.
    return (out[0][:, :1], *out[1:]) if isinstance(out, tuple) else out[:, :1]
