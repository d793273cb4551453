"""How far an upload has moved from what its client was sent, beside the others of its round.

    ‖s B A − s₀ B₀ A₀‖  over all layers;  of the side (or the core) that travels alone ‖X − X₀‖
    refused where it is above  k · median of the last cohort                 (k: max_norm)

Tensors trained whole have a norm and a median of their own, so that neither hides the other. What
was refused for its norm alone is in the next median too: one that has risen for everybody, say with
the learning rate, costs a round and no more. A median holds as long as most clients are honest.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from polyrank.algorithm import Algorithm, State
from polyrank.client.change import Known, known, slots_of
from polyrank.lora.algebra import difference, take, truncate
from polyrank.lora.factor import Factor, Factors
from polyrank.messages import Client, Sides, Upload
from polyrank.weights import square

EARLY = 3  # uploads before one, where there was no cohort before theirs
_WORDS = {"factors": "factors", "dense": "tensors trained whole"}


class Norm(NamedTuple):
    """Of an upload's change: over its factors, and over the tensors trained whole."""

    factors: float
    dense: float


def begun(algorithm: Algorithm, state: State, client: Client, template: Factors) -> Known:
    """What a client was sent, found again: to keep it for all would be to have it all at once.

    Args:
        algorithm: whose state it is.
        state: before the round.
        client: at its rank.
        template: one factor per layer, for shapes and dtype.
    """
    return known(algorithm.send(state, replace(client, seen=0)), client, template)


def moved(upload: Upload, start: Known) -> Norm:
    """How far an upload has moved; infinite where that overflows.

    Args:
        upload: that fits what was asked for.
        start: what its client was sent, in the upload's form, before it was rounded for its way.
    """
    factors = (square(_change(upload, name, start)) for name in upload.factors)
    apart = (t.double() - start.dense[n].double() for n, t in upload.dense.items())
    dense = (float(d.square().sum()) for d in apart)
    return Norm(_finite(sum(factors) ** 0.5), _finite(sum(dense) ** 0.5))


class Cohort:
    """The norms of one round, held to those of the last.

    Args:
        last: medians by what they are of, of the last round that had such uploads.
        limit: k; None refuses nothing.
    """

    def __init__(self, last: Mapping[str, float], limit: float | None) -> None:
        self.last, self.limit = last, limit
        self._now: dict[str, list[float]] = {}

    def refusal(self, client: str, sides: Sides, norm: Norm) -> str | None:
        """Why an upload is not let in; None if it is. Either way its norm is remembered.

        Args:
            client: whose.
            sides: that travel: only such uploads are compared.
            norm: of its change.
        """
        reasons = [self._above(client, sides, part, x) for part, x in norm._asdict().items()]
        return next(filter(None, reasons), None)

    def medians(self) -> dict[str, float]:
        """Those that the next round is held to."""
        return {**self.last, **{kind: median(found) for kind, found in self._now.items()}}

    def _above(self, client: str, sides: Sides, part: str, x: float) -> str | None:
        kind = f"{sides}/{part}"
        before = self._now.setdefault(kind, [])
        middle, whose = self.last.get(kind), "the last cohort"
        if middle is None and len(before) >= EARLY:
            middle, whose = median(before), f"the {len(before)} before it"
        before.append(x)
        if self.limit is None or not middle or x <= self.limit * middle:
            return None
        return (
            f"client {client!r} moved its {_WORDS[part]} by a norm of {x:.3g}, above "
            f"{self.limit:g} (aggregation.max_norm) times {middle:.3g}, the median of {whose}"
        )


def _change(upload: Upload, layer: str, start: Known) -> Factor:
    f, whole = upload.factors[layer], start.factors[layer]
    slots = layer in upload.slots
    part = take(whole, slots_of(upload, layer)) if slots else truncate(whole, f.rank)
    return difference(f, part)


def _finite(x: float) -> float:
    return x if math.isfinite(x) else math.inf
