"""What everybody folds into the base, round by round, and what a client that was away lacks.

    base_v = W0 + Σ_{u ≤ v} F_u        F_u: the factors of fold number u

A client that has seen version v is sent F_{v+1} … F_now stacked, or all folds in one, on top of
W0, where that is smaller.
"""

from dataclasses import dataclass

from polyrank.lora.algebra import stack, total
from polyrank.lora.factor import Factor, Factors


@dataclass(frozen=True, slots=True)
class Folds:
    """All folds in one, and the latest each by itself; the last of these is number `version`."""

    merged: Factors  # rank at most min(out, in)
    recent: tuple[Factors, ...] = ()
    version: int = 0


def unfolded(template: Factors, version: int = 0) -> Folds:
    """Nothing folded yet, for the template's layers; the first fold is number `version` + 1."""
    return Folds({n: Factor(f.a[:0], f.b[:, :0]) for n, f in template.items()}, (), version)


def grown(folds: Folds, new: Factors) -> Folds:
    """One more fold.  base_{v+1} = base_v + new; a layer that `new` lacks stays."""
    merged = {n: total([f, new[n]]) if n in new else f for n, f in folds.merged.items()}
    return Folds(merged, _recent((*folds.recent, new)), folds.version + 1)


def lacking(folds: Folds, seen: int) -> tuple[int, Factors]:
    """(since, fold): what makes the base of now from version `since`, which is `seen` or 0."""
    away = folds.version - seen
    if away > len(folds.recent):
        return 0, folds.merged
    missed = folds.recent[len(folds.recent) - away :]
    layers = [name for name in folds.merged if any(name in m for m in missed)]
    return seen, {n: stack([m[n] for m in missed if n in m]) for n in layers}


def _recent(folds: tuple[Factors, ...]) -> tuple[Factors, ...]:
    """The last folds, as many as are smaller than full rank together; the newest always stays."""
    full = {n: min(f.shape) for n, f in folds[-1].items()}
    for k in range(1, len(folds)):
        if any(sum(f[n].rank for f in folds[-k - 1 :] if n in f) > full[n] for n in full):
            return folds[-k:]
    return folds
