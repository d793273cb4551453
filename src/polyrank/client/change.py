"""An upload as its change from what client and server both know, and back.

    change = trained − known,   upload = known + change

What both know follows from the download alone: the sides that were sent; else the rows of A that
its seed stands for, zeros of a B, zeros of an A that the client keeps. A change is small, and
mostly near zero: it can be rounded, and its smaller part left out. A factor with most of its
numbers left out would be another factor.

Beznosikov et al., JMLR 2023, arXiv 2002.12410 (compressed changes); Horváth et al., 2019, arXiv
1904.05115 (differences from a state that both sides hold).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from polyrank.client.start import begin
from polyrank.errors import MessageError
from polyrank.lora.algebra import half, regauge, take, truncate
from polyrank.lora.factor import Dense, Factor, Factors, parameters
from polyrank.messages import Client, Download, Upload


class Known(NamedTuple):
    """What an upload is told relative to, in the upload's form.

    Args:
        factors: every slot that was sent, the sides that come back (a core in the place of A).
        dense: the tensors trained whole.
    """

    factors: Factors
    dense: Dense

    @property
    def numbers(self) -> int:
        """How many an upload has at most."""
        return sum(map(parameters, self.factors.values())) + sum(
            t.numel() for t in self.dense.values()
        )


def known(download: Download, client: Client, template: Factors) -> Known:
    """What client and server both know of what the client starts from.

    Args:
        download: as it arrived at the client.
        client: to whom.
        template: one factor per adapted layer, for shapes and dtype.
    """
    if download.up == "core":
        cores = {n: Factor(c, c[:0]) for n, c in download.core.items()}
        return Known(cores, download.dense)
    kept = {}
    if download.fresh is None:  # what is not sent is kept by the client, and not known
        rank = max(client.rank, *(f.rank for f in download.start.values()), 0)
        kept = {f"a/{n}": f.a.new_zeros(rank, f.shape[1]) for n, f in template.items()}
    start = begin(download, client, template, kept)
    return Known({n: half(f, download.up) for n, f in start.items()}, download.dense)


def changed(upload: Upload, known: Known) -> Upload:
    """The upload less what is known."""
    return _combined(upload, known, lambda x, y: x - y)


def restored(change: Upload, known: Known) -> Upload:
    """The upload that this is the change of.  restored(changed(u, k), k) == u but for rounding.

    Raises:
        MessageError: names, ranks or shapes that do not fit what was sent.
    """
    return _combined(change, known, lambda x, y: y + x)


def slots_of(upload: Upload, name: str) -> Sequence[int]:
    """Which of the slots that were sent a layer's factor holds."""
    return upload.slots.get(name, range(upload.factors[name].rank))


def _combined(upload: Upload, known: Known, with_: Callable[[Tensor, Tensor], Tensor]) -> Upload:
    factors = {}
    for name, f in upload.factors.items():
        g = _same(name, upload, known)
        factors[name] = Factor(with_(f.a, g.a), with_(f.b, g.b), f.scale)
    dense = {}
    for name, t in upload.dense.items():
        like = known.dense.get(name)
        if like is None or like.shape != t.shape:
            raise MessageError(f"{name}: {tuple(t.shape)} does not fit what was sent")
        dense[name] = with_(t, like) if t.is_floating_point() else t
    return replace(upload, factors=factors, dense=dense)


def _same(name: str, upload: Upload, known: Known) -> Factor:
    """What is known of the slots that an upload has of a layer, at its scale."""
    f, whole = upload.factors[name], known.factors.get(name)
    if whole is None:
        raise MessageError(f"{name}: was not asked for")
    if not math.isfinite(f.scale) or f.scale == 0:
        raise MessageError(f"{name}: has scale {f.scale}")
    slots = slots_of(upload, name)
    if len(slots) != f.rank or not all(0 <= j < whole.rank for j in slots):
        raise MessageError(f"{name}: slots or rank {f.rank} do not fit the {whole.rank} slots sent")
    part = take(whole, slots) if name in upload.slots else truncate(whole, f.rank)
    if (part.a.shape, part.b.shape) != (f.a.shape, f.b.shape):
        raise MessageError(f"{name}: shape {f.shape}, not {part.shape}")
    return regauge(part, f.scale)
