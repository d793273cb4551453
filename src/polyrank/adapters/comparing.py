"""`polyrank diff`: how far two adapters are apart, and how their subspaces lie to each other."""

from collections.abc import Sequence
from statistics import fmean

from polyrank.adapters.cutting import ordered
from polyrank.adapters.opened import wide
from polyrank.adapters.sheet import Sheet, Table, block, kinds
from polyrank.errors import AdapterError
from polyrank.lora.algebra import norm, stack
from polyrank.lora.angles import Angles, angles, cosine
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.incoming import Incoming
from polyrank.report.panels import Heat, Line, Panel
from polyrank.report.style import colour, dash
from polyrank.report.words import number


def diff(one: Incoming, other: Incoming) -> Sheet:
    """What two adapters of one model have in common.

    Args:
        one, other: the adapters; layers that only one adapts are named.

    Raises:
        AdapterError: no layer is adapted by both, or in other shapes.
    """
    first, second = (ordered(wide(a.adapter.factors)).factors for a in (one, other))
    both = [name for name in first if name in second]
    _check(one, other, both)
    found = {name: angles(first[name], second[name]) for name in both}
    table = Table(
        "By layer",
        ("layer", "ranks", "‖A‖", "‖B‖", "‖A − B‖", "cosine", "inputs °", "outputs °"),
        [_row(name, first[name], second[name], found[name]) for name in both],
    )
    lines = [_base(one, other), *_whole(first, second, both), *_alone(one, first, second),
             *_alone(other, second, first)]  # fmt: skip
    title = f"A = {one.path}, B = {other.path}"
    panels = [_panel(found, "rows", "inputs"), _panel(found, "columns", "outputs")]
    return Sheet(title, lines, [table], panels, _cosines(first, second, both), True)


def _check(one: Incoming, other: Incoming, both: Sequence[str]) -> None:
    if not both:
        raise AdapterError(
            f"{one.path} and {other.path} adapt no layer in common; they are of different models"
        )
    for name in both:
        shapes = [tuple(a.adapter.factors[name].shape) for a in (one, other)]
        if shapes[0] != shapes[1]:
            raise AdapterError(
                f"{name!r} has shape {shapes[0]} in {one.path}, but {shapes[1]} in {other.path}: "
                "they are of different models"
            )


def _base(one: Incoming, other: Incoming) -> str:
    if one.base == other.base:
        return f"base of both: {one.base or 'not said'}"
    return f"different bases: {one.base or 'not said'} and {other.base or 'not said'}"


def _whole(first: Factors, second: Factors, both: Sequence[str]) -> list[str]:
    """All layers as one vector: norms, distance and cosine."""
    apart = sum(_distance(first[n], second[n]) ** 2 for n in both) ** 0.5
    sizes = [sum(float(norm(f[n])) ** 2 for n in both) ** 0.5 for f in (first, second)]
    dot = sum((cosine(first[n], second[n]) or 0.0) * float(norm(first[n]))
              * float(norm(second[n])) for n in both)  # fmt: skip
    cos = dot / (sizes[0] * sizes[1]) if sizes[0] and sizes[1] else None
    return [
        f"over {len(both)} layers: ‖A‖ {number(sizes[0])}, ‖B‖ {number(sizes[1])}, "
        f"‖A − B‖ {number(apart)}, cosine {number(cos, 3)}"
    ]


def _alone(one: Incoming, own: Factors, other: Factors) -> list[str]:
    """Layers that only one of them adapts."""
    left = [name for name in own if name not in other]
    return [f"only {one.path} adapts {', '.join(left)}"] if left else []


def _row(name: str, f: Factor, g: Factor, found: Angles) -> tuple[str, ...]:
    return (
        name, f"{f.rank}, {g.rank}", number(float(norm(f))), number(float(norm(g))),
        number(_distance(f, g)), number(cosine(f, g), 3), _span(found.rows), _span(found.columns),
    )  # fmt: skip


def _distance(f: Factor, g: Factor) -> float:
    """‖A − B‖, from the singular values of the difference; 0 where it is rounding alone."""
    (apart,) = ordered({"": stack([f, g], [1.0, -1.0])}).energies.values()
    found, size = float(apart.sum()) ** 0.5, float(norm(f)) + float(norm(g))
    return found if found > 1e-14 * size else 0.0


def _span(degrees: Sequence[float]) -> str:
    """From the smallest to the largest."""
    if not degrees:
        return "–"
    low, high = f"{degrees[0]:.1f}", f"{degrees[-1]:.1f}"
    return low if low == high else f"{low}–{high}"


def _panel(found: dict[str, Angles], side: str, words: str) -> Panel:
    """Principal angles, the mean over the blocks, a line for each kind of layer."""
    drawn = []
    for i, (kind, names) in enumerate(kinds(list(found)).items()):
        each = [getattr(found[n], side) for n in names]
        count = min(map(len, each))
        y = [fmean(own[j] for own in each) for j in range(count)]
        text = [f"{kind}\nangle {j}: {v:.1f}°" for j, v in enumerate(y, start=1)]
        x = [float(j) for j in range(1, count + 1)]
        drawn.append(Line(kind, x, y, text, colour(i), dash(i)))
    title = f"Principal angles between the {words} that A and B use"
    return Panel(title, "angle, by size", "degrees", drawn, span=(0.0, 90.0))


def _cosines(first: Factors, second: Factors, both: Sequence[str]) -> Heat:
    """Cosine by kind and block, in percent."""
    found, blocks = kinds(both), list(dict.fromkeys(block(n) for n in both))
    at = {(kind, block(n)): cosine(first[n], second[n]) for kind, names in found.items()
          for n in names}  # fmt: skip
    z = [[None if (c := at.get((kind, b))) is None else 100 * c for b in blocks] for kind in found]
    text = [
        [f"{kind}, block {b}\ncosine {number(None if v is None else v / 100, 3)}"
         for b, v in zip(blocks, row, strict=True)]
        for kind, row in zip(found, z, strict=True)
    ]  # fmt: skip
    return Heat("Cosine by layer, %", "block", "", blocks, list(found), z, text)
