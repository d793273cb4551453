"""Error feedback: what a client's uploads left out so far is added to its next one.

    x_t = change_t + e_t,   sent: C(x_t),   e_{t+1} = x_t − C(x_t)
    Σ_{t<T} C(x_t) + e_T = Σ_{t<T} change_t                           (with e_0 = 0)

e is the client's own: the server keeps nothing. It belongs to the slots it was measured on: where
the server turned its factors since (a new decomposition, a new draw), a slot's e would be added to
another direction, so that it is dropped unless the slot's row of A still points the same way; where
it points the opposite way, both sides have changed their sign. A rank or a shape that changed drops
it too. An upload that is lost or refused on its way takes what it held with it.

Karimireddy et al., ICML 2019, arXiv 1901.09847; Stich et al., NeurIPS 2018, arXiv 1809.07599.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.client.change import Known, slots_of
from polyrank.lora.algebra import put
from polyrank.lora.factor import Factor
from polyrank.messages import Upload

# "a/…" and "b/…" (what the sides of a layer's factor lack, scale folded into B), "dense/…", and
# "at/…": the rows of A that the layer's slots started from.
Owed = Mapping[str, Tensor]
ALIKE = 0.5  # the least |cosine| of a slot's rows of A that are the same slot's


def due(owed: Owed, like: Known, at: Mapping[str, Tensor]) -> Known:
    """e for what is sent now; zeros where nothing is owed, or not to these slots.

    Args:
        owed: what the client kept.
        like: what it uploads, for names and shapes.
        at: by layer, the rows of A that it started from; none for a core, whose frame stays.
    """
    factors = {}
    for name, f in like.factors.items():
        a, b = (_fitting(owed, f"{side}/{name}", t) for side, t in (("a", f.a), ("b", f.b)))
        if name in at:
            sign = _signs(owed.get(f"at/{name}"), at[name])
            a, b = sign[:, None] * a, sign * b
        factors[name] = Factor(a, b)
    dense = {n: _fitting(owed, f"dense/{n}", t) for n, t in like.dense.items()}
    return Known(factors, dense)


def left(whole: Upload, sent: Upload, before: Known, at: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is owed after an upload.

    Args:
        whole: the change and what was owed.
        sent: what of it the server gets.
        before: what was owed; it stays where nothing was sent.
        at: by layer, the rows of A that the client started from.
    """
    kept = {f"at/{name}": rows for name, rows in at.items()}
    for name, owed in before.factors.items():
        if name in whole.factors:
            f, g = whole.factors[name], sent.factors[name]
            rest = Factor(f.a - g.a, f.scale * (f.b - g.b))
            owed = put(owed, slots_of(whole, name), rest)
        kept |= {f"{s}/{name}": t for s, t in (("a", owed.a), ("b", owed.b)) if t.numel()}
    return kept | {f"dense/{n}": t - sent.dense[n] for n, t in whole.dense.items()}


def _fitting(owed: Owed, key: str, like: Tensor) -> Tensor:
    found = owed.get(key)
    fits = found is not None and (found.shape, found.dtype) == (like.shape, like.dtype)
    return found if found is not None and fits else torch.zeros_like(like)


def _signs(before: Tensor | None, now: Float[Tensor, "rank in"]) -> Float[Tensor, " rank"]:
    """1 for a slot that is the same, −1 for one that has turned round, 0 for another."""
    if before is None or before.shape != now.shape:
        return now.new_zeros(len(now))
    cosine = (before * now).sum(1) / (before.norm(dim=1) * now.norm(dim=1))  # NaN of empty rows
    return torch.where(cosine.abs() > ALIKE, cosine.sign(), 0.0)
