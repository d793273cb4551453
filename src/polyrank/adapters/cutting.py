"""An update at a smaller rank, and how much of its energy that keeps.

kept(r) = Σ_layers Σ_{j≤r} σ_j² / Σ_layers Σ_j σ_j²
"""

from typing import NamedTuple

from torch import Tensor

from polyrank.errors import AdapterError
from polyrank.lora.algebra import pad, stack, truncate
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.parallel import each
from polyrank.lora.spectral import recompress
from polyrank.report.words import percent


class Ordered(NamedTuple):
    """An update with each layer's slots by falling singular value, without those that are empty.

    Args:
        factors: orthonormal rows of A; the singular values are in B.
        energies: by layer, σ_j².
    """

    factors: Factors
    energies: dict[str, Tensor]

    @property
    def rank(self) -> int:
        """The largest of all layers: what the update needs to be kept whole."""
        return max(f.rank for f in self.factors.values())

    def kept(self, rank: int) -> float:
        """The share of the energy that is kept at this rank; 1 for no update at all."""
        total = sum(float(e.sum()) for e in self.energies.values())
        # What is lost is summed, so that it is exact also where it is tiny.
        lost = sum(float(e[rank:].flip(0).sum()) for e in self.energies.values())
        return 1.0 - lost / total if total else 1.0


def ordered(factors: Factors) -> Ordered:
    """The same update, exactly, in its singular directions."""
    found = each(list(factors), lambda n: _full(recompress(factors[n])))
    return Ordered(found, {n: f.b.double().square().sum(dim=0) for n, f in found.items()})


def at_rank(update: Ordered, rank: int) -> dict[str, Factor]:
    """The best approximation of at most this rank at every layer.

    Raises:
        AdapterError: as for `check`.
    """
    check(update, rank)
    return {n: truncate(f, rank) for n, f in update.factors.items()}


def check(update: Ordered, rank: int) -> None:
    """Refuse a rank that no adapter of these layers can have.

    Raises:
        AdapterError: the rank is below 1, or above what the smallest layer can have.
    """
    name = min(update.factors, key=lambda n: min(update.factors[n].shape))
    shape = update.factors[name].shape
    if rank < 1:
        raise AdapterError(f"rank {rank}: an adapter has at least rank 1")
    if rank > min(shape):
        raise AdapterError(
            f"rank {rank} is too large for layer {name!r} of shape {shape}; the largest rank that "
            f"works is {min(shape)}"
        )


def rank_for(update: Ordered, energy: float) -> int:
    """The smallest rank that keeps this share of the energy.

    Raises:
        AdapterError: the share is not above 0 and at most 1.
    """
    if not 0 < energy <= 1:
        raise AdapterError(f"energy {energy:g}: a share above 0 and at most 1, such as 0.95")
    ranks = range(1, update.rank + 1)
    return next((r for r in ranks if update.kept(r) >= energy), max(update.rank, 1))


def apart(factors: Factors, wanted: Factors) -> float:
    """‖ΔW − ΔW'‖ / ‖ΔW'‖ over all layers of the second; 0 where that is no update at all."""
    missed = {n: stack([factors[n], f], [1.0, -1.0]) for n, f in wanted.items()}
    sizes = [sum(float(e.sum()) for e in ordered(u).energies.values()) for u in (missed, wanted)]
    return (sizes[0] / sizes[1]) ** 0.5 if sizes[1] else 0.0


def told(update: Ordered, rank: int) -> str:
    """What a rank keeps, in words."""
    kept = percent(update.kept(rank), 2)
    return f"rank {rank} keeps {kept} of the energy (the update has rank {update.rank})"


def padded(factors: Factors, rank: int) -> dict[str, Factor]:
    """Every layer at exactly this rank, by empty slots; the update is unchanged.

    Args:
        factors: of at most that rank.
        rank: of the result.
    """
    return {n: pad(f, rank) for n, f in factors.items()}


def filled(factors: Factors) -> dict[str, Factor]:
    """The same update with one empty slot where a layer has none: what PEFT can load."""
    return {n: f if f.rank else pad(f, 1) for n, f in factors.items()}


def _full(f: Factor) -> Factor:
    """Without the empty slots at its end."""
    return truncate(f, int((f.b != 0).any(dim=0).sum()))
