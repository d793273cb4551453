"""An update at full rank whose leading slots are its best approximation: truncating is slicing.

    ΔW = [T_R(ΔW) | ΔW − T_R(ΔW)],   T_r for every r ≤ R are the leading r slots

Where decomposing all of ΔW costs more than its leading part, only that is in SVD order; the rest
is kept as it is, factored or dense (algebra.total).
"""

from polyrank.lora.algebra import resize, scaled, stack, total
from polyrank.lora.factor import Factor
from polyrank.lora.spectral import leads, recompress


def headed(f: Factor, rank: int) -> Factor:
    """The same update with its leading `rank` slots in SVD order.

    headed(f, r).delta == f.delta;  truncate(headed(f, r), s).delta == T_s(f.delta) for s ≤ r.

    Args:
        f: the update; any rank.
        rank: R, of which truncations will be asked for.
    """
    if not leads([f], rank):
        return recompress(f)
    head = resize(recompress(f, rank), rank)
    rest = total([f, scaled(head, -1.0)])
    return stack([head, rest])


def parts(f: Factor, rank: int) -> tuple[Factor, Factor]:
    """(head, rest) of an update that is headed at `rank`; together they are the update."""
    return Factor(f.a[:rank], f.b[:, :rank], f.scale), Factor(f.a[rank:], f.b[:, rank:], f.scale)
