"""How many slots hold a given share of an update's energy.

p = min {p : Σ_{j≤p} σ_j² ≥ τ Σ_j σ_j²}
"""

from polyrank.lora.algebra import truncate
from polyrank.lora.factor import Factor
from polyrank.lora.spectral import recompress


def thresholded(f: Factor, tau: float) -> Factor:
    """The best approximation by the fewest slots that hold `tau` of the energy; 1 keeps all."""
    best = recompress(f)
    energy = best.b.double().square().sum(dim=0)  # σ_j², falling
    # Summed from the smallest on: the energy that is lost is exact also where it is tiny.
    lost = energy.flip(0).cumsum(0).flip(0)  # by cutting slot j and all after it
    return truncate(best, int((lost > (1 - tau) * energy.sum()).sum()))
