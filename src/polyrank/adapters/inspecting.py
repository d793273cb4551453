"""`polyrank inspect`: what an adapter does at every layer, and what a smaller rank would lose."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from torch import Tensor

from polyrank.adapters.cutting import Ordered, ordered
from polyrank.adapters.opened import wide
from polyrank.adapters.sheet import Sheet, Table, block, kinds
from polyrank.adapters.weights import known_examples
from polyrank.lora.factor import parameters
from polyrank.lora.incoming import Incoming
from polyrank.lora.spectral import effective_rank
from polyrank.report.panels import Heat, Line, Panel
from polyrank.report.style import colour, dash
from polyrank.report.words import megabytes, number, percent, ranges


def inspect(one: Incoming) -> Sheet:
    """All that can be told of an adapter without its base.

    Args:
        one: the adapter.
    """
    update = ordered(wide(one.adapter.factors))
    by_layer = Table(
        "By layer",
        ("layer", "out × in", "rank", "scale", "‖ΔW‖", "σ₁", "effective rank", "for 90 %",
         "for 99 %"),
        [_row(one, update, name) for name in update.factors],
    )  # fmt: skip
    lost = Table(
        "Lost at a smaller rank",
        ("rank", "energy lost", "at the worst layer"),
        [
            (str(r), percent(1 - update.kept(r), 2), percent(_worst(update, r), 2))
            for r in _ranks(update)
        ],
    )
    panels = [_losses(update), _spectra(update)]
    return Sheet(f"{one.path}", _facts(one), [by_layer, lost], panels, _effective(update))


def lost(energies: Tensor, rank: int) -> float:
    """The share of a layer's energy beyond a rank; 0 for no update at all."""
    total = float(energies.sum())
    return float(energies[rank:].flip(0).sum()) / total if total else 0.0


def _facts(one: Incoming) -> list[str]:
    factors, dense = one.adapter.factors, one.adapter.dense
    size = sum(map(parameters, factors.values()))
    ranks = ranges(f.rank for f in factors.values())
    lines = [
        f"base: {one.base or 'not said'}" + (f", task {one.task}" if one.task else ""),
        f"{len(factors)} layers of rank {ranks}: {size:,} parameters "
        f"({megabytes(4 * size / 1e6)} MB in float32)",
    ]
    if dense:
        whole = sum(t.numel() for t in dense.values())
        lines.append(f"kept whole: {', '.join(sorted(dense))} ({whole:,} parameters)")
    if examples := known_examples(one):
        lines.append(f"trained on {examples:,.0f} examples")
    return lines


def _row(one: Incoming, update: Ordered, name: str) -> tuple[str, ...]:
    f, energies = one.adapter.factors[name], update.energies[name]
    values = energies.sqrt()
    return (
        name, f"{f.shape[0]} × {f.shape[1]}", str(f.rank), number(f.scale),
        number(float(energies.sum().sqrt())), number(float(values[0]) if len(values) else 0.0),
        number(effective_rank(values), 3), str(_for(energies, 0.9)), str(_for(energies, 0.99)),
    )  # fmt: skip


def _for(energies: Tensor, share: float) -> int:
    """The smallest rank that keeps this share of the layer's energy."""
    return next((r for r in range(len(energies) + 1) if 1 - lost(energies, r) >= share), 0)


def _worst(update: Ordered, rank: int) -> float:
    return max(lost(e, rank) for e in update.energies.values())


def _ranks(update: Ordered) -> list[int]:
    """Powers of two below the rank of the update."""
    return [2**k for k in range(update.rank.bit_length()) if 2**k < update.rank]


def _losses(update: Ordered) -> Panel:
    """Energy lost by rank, a line for each kind of layer."""
    ranks = list(range(1, max(update.rank, 2)))
    series = {
        kind: [fmean(lost(update.energies[n], r) for n in names) for r in ranks]
        for kind, names in kinds(list(update.factors)).items()
    }
    drawn = _lines(series, ranks, "energy lost at rank")
    return Panel("Energy lost at a smaller rank", "rank", "share of energy lost", drawn,
                 from_zero=True)  # fmt: skip


def _spectra(update: Ordered) -> Panel:
    """Singular values, the mean over the blocks, a line for each kind of layer."""
    places = list(range(1, max(update.rank, 1) + 1))
    series = {
        kind: [fmean(_value(update.energies[n], j) for n in names) for j in places]
        for kind, names in kinds(list(update.factors)).items()
    }
    drawn = _lines(series, places, "σ")
    return Panel("Spectrum", "singular value, by size", "σ (mean over blocks)", drawn, log_y=True)


def _value(energies: Tensor, place: int) -> float:
    return float(energies[place - 1].sqrt()) if place <= len(energies) else 0.0


def _lines(
    series: Mapping[str, Sequence[float]], x: Sequence[int], words: str
) -> list[Line]:  # fmt: skip
    """A line by kind; zeros have no place on a log axis."""
    return [
        Line(
            kind, [float(v) for v in x], [v or None for v in values],
            [f"{kind}\n{words} {r}: {number(v)}" for r, v in zip(x, values, strict=True)],
            colour(i), dash(i),
        )
        for i, (kind, values) in enumerate(series.items())
    ]  # fmt: skip


def _effective(update: Ordered) -> Heat:
    """Effective rank by kind and block."""
    found = kinds(list(update.factors))
    blocks = list(dict.fromkeys(block(n) for n in update.factors))
    at = {(kind, block(n)): effective_rank(update.energies[n].sqrt())
          for kind, names in found.items() for n in names}  # fmt: skip
    z = [[at.get((kind, b)) for b in blocks] for kind in found]
    text = [
        [f"{kind}, block {b}\neffective rank {number(v)}" for b, v in zip(blocks, row, strict=True)]
        for kind, row in zip(found, z, strict=True)
    ]
    return Heat("Effective rank by layer", "block", "", blocks, list(found), z, text)
