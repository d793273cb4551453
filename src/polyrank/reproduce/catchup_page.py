"""The section on catchup: is it FLoRA's accuracy for an eighth of the download, and its sweep."""

from collections.abc import Iterator, Sequence

from polyrank.report.statistics import Estimate
from polyrank.report.words import count, listed, megabytes
from polyrank.reproduce import catchup, fedhl, tables
from polyrank.reproduce.catchup import LONG, NAME, OPEN, RIVALS, SEEN, VARIANTS
from polyrank.reproduce.experiment import Section
from polyrank.reproduce.fedhl_page import QUICK, cells
from polyrank.reproduce.fedhl_setting import rates
from polyrank.reproduce.grid import Row
from polyrank.reproduce.tables import Index, bold, code, prose, said

SHARE = 1 / 8  # an eighth of FLoRA's download, at most
ALIKE = 0.05  # traffic that differs by less, as a share, is equal


def section(rows: Sequence[Row]) -> Section:
    """The section from the rows that there are; what is missing is named."""
    found = tables.index(rows, "runs", "sweep")
    every, labels = cells("silo", "harsh"), (NAME, *RIVALS)
    whole = tables.done(found, labels, every, fedhl.SEEDS)
    seeds = fedhl.SEEDS if whole or not tables.done(found, labels, every, QUICK) else QUICK
    there = tables.done(found, labels, every, seeds)
    seen, fresh = ([c for c in there if (c in SEEN) == old] for old in (True, False))
    parts = [
        "## Catchup against FLoRA and FedHL",
        "    .venv/bin/polyrank reproduce catchup",
        prose(
            "Setting and learning rates as for FedHL above, cross-silo with harsh ranks. The "
            "claim: FLoRA's accuracy or better with at most an eighth of its download, and "
            "better than FedHL for the same traffic."
        ),
        prose(
            "Catchup was changed after its first version had been measured on "
            f"{listed(c.split(', ')[-1] for c in SEEN)} with dirichlet(0.5), and once more, on "
            "validation data of the frozen head (below) alone, when its second version had been "
            "measured on all of these cells (LOG.md). What follows of the first is therefore a "
            "development result; the claim rests on the others."
        ),
        "### Cells it was not developed on",
        *(_verdicts(found, fresh, seeds) if fresh else ["Not run yet."]),
        "### The cells it was developed on",
        *(_verdicts(found, seen, seeds) if seen else ["Not run yet."]),
        *_missing(every, there),
        "### Catchup's open questions",
        *_sweep(rows, found, seeds),
        f"### Longer: {catchup.ROUNDS} rounds",
        *_long(tables.index(rows, "long"), seeds),
    ]
    return Section("\n\n".join(parts) + "\n", {})


def _verdicts(found: Index, there: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    """The claim's three parts, the comparison with each rival, and where it wins."""
    yield prose(download(found, there, seeds))
    flora = tables.paired(found, NAME, "flora", there, seeds)
    yield prose(accuracy(flora, "FLoRA's accuracy or better", "flora"))
    hl = tables.paired(found, NAME, "fedhl", there, seeds)
    told = accuracy(hl, "Better than FedHL", "fedhl", strict=True)
    yield prose(f"{told} {traffic(found, there, seeds)}")
    yield prose(
        "Paired: `catchup` less the other in the same cell under the same seed, in points, mean ± "
        f"half the 95 % interval; in bold where it leaves out 0. All cells: {len(there)} × "
        f"{len(seeds)} pairs, taken as independent. MB of a run, head included, mean over cells."
    )
    yield _compared(found, there, seeds)
    yield prose(" ".join(_wins(found, rival, there, seeds) for rival in RIVALS))


def download(found: Index, there: Sequence[str], seeds: Sequence[int]) -> str:
    """Is the download at most the share of FLoRA's that is claimed, in each cell?"""
    ours, theirs = (
        [tables.mean_of(found, "mb_down", a, [cell], seeds) for cell in there]
        for a in (NAME, "flora")
    )
    share = [own / other for own, other in zip(ours, theirs, strict=True)]
    small = [c for c, s in zip(there, share, strict=True) if s <= SHARE]
    word = "holds" if len(small) == len(there) else "does not hold"
    where = "" if len(small) == len(there) else (
        f" It is so in {len(small)} of {count(len(there), 'cell')}; the head, "
        "which every algorithm sends alike, weighs most with many classes."
    )  # fmt: skip
    return (
        f"At most an eighth of FLoRA's download **{word}**: it is {min(share):.3f} to "
        f"{max(share):.3f} of it, head included.{where}"
    )


def accuracy(gap: Estimate, claim: str, other: str, strict: bool = False) -> str:
    """The verdict on a claim about accuracy, from paired differences.

    Args:
        gap: catchup less the other.
        claim: in words.
        other: algorithm.
        strict: whether catchup must be better; else nothing may show that it is worse.
    """
    where = tables.standing(gap)
    word = {"ahead": "holds", "tie": "is a tie", "behind": "does not hold"}[where]
    loose = f", and the interval allows {100 * -gap.low:.1f} points less" if where == "tie" else ""
    need = " A tie is not better." if strict and where == "tie" else ""
    return (
        f"“{claim}” **{word}**: {said(gap, '+')} points against `{other}` over {gap.n} pairs"
        f"{loose}.{need}"
    )


def traffic(found: Index, there: Sequence[str], seeds: Sequence[int]) -> str:
    """How catchup's traffic compares with FedHL's."""
    ours, theirs = (_total(found, a, there, seeds) for a in (NAME, "fedhl"))
    alike = abs(ours / theirs - 1) <= ALIKE
    return (
        f"Their traffic is {'equal' if alike else 'not equal'}: {megabytes(ours)} MB against "
        f"{megabytes(theirs)} MB."
    )


def _compared(found: Index, there: Sequence[str], seeds: Sequence[int]) -> str:
    """A line per rival: the difference over all cells and in each, and what both send."""
    columns = [there, *([c] for c in there)]
    own = [said(tables.over_seeds(found, NAME, c, seeds)) for c in columns]
    lines = [["`catchup`, accuracy", *own, *_megabytes(found, NAME, there, seeds)]]
    for rival in RIVALS:
        gaps = [tables.paired(found, NAME, rival, c, seeds) for c in columns]
        told = [_difference(g) for g in gaps]
        lines.append([f"less `{rival}`", *told, *_megabytes(found, rival, there, seeds)])
    heads = ["<br>".join(reversed(c.split(", ")[2:])) for c in there]
    return tables.table(["", "all cells", *heads, "MB up", "MB down"], lines)


def _wins(found: Index, rival: str, there: Sequence[str], seeds: Sequence[int]) -> str:
    each = [tables.standing(tables.paired(found, NAME, rival, [c], seeds)) for c in there]
    ahead, behind = (each.count(side) for side in ("ahead", "behind"))
    return (
        f"Against `{rival}` it is ahead in {ahead} of {count(len(there), 'cell')}, behind in "
        f"{behind}, the rest are ties."
    )


def _sweep(rows: Sequence[Row], found: Index, seeds: Sequence[int]) -> Iterator[str]:
    """The variants against catchup as it is, at their own learning rates."""
    yield from rates(rows, [NAME, *VARIANTS])
    asked = [*VARIANTS, *RIVALS[:2]]
    known = {a: tables.done(found, (NAME, a), OPEN, seeds) for a in asked}
    if not any(known.values()):
        yield "Runs: not run yet."
        return
    gaps = {a: tables.paired(found, a, NAME, there, seeds) for a, there in known.items() if there}
    yield prose(
        f"In {len(OPEN)} cells, {count(len(seeds), 'seed')}: less `catchup` as it is, paired, in "
        "points; in bold where the interval leaves out 0. A server's momentum moves the head too."
    )
    lines = [[f"`{a}`", str(len(known[a])), _difference(gap),
              *_megabytes(found, a, known[a], seeds)] for a, gap in gaps.items()]  # fmt: skip
    yield tables.table(["less `catchup`", "cells", "points", "MB up", "MB down"], lines)
    ours = {a: g for a, g in gaps.items() if a in VARIANTS}
    yield prose(_standings(ours))
    if missing := [a for a in asked if a not in gaps]:
        yield prose(f"Not run yet: {listed(code(missing))}.")


def _standings(gaps: dict[str, Estimate]) -> str:
    words = {"ahead": "better than `catchup` as it is", "tie": "a tie", "behind": "worse"}
    told = []
    for standing, text in words.items():
        if names := [a for a, g in gaps.items() if tables.standing(g) == standing]:
            told.append(f"{text}: {listed(code(names))}")
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}." if told else "No variant was run yet."


def _long(found: Index, seeds: Sequence[int]) -> Iterator[str]:
    """Three algorithms over more rounds."""
    there = tables.done(found, LONG, OPEN, seeds)
    if not there:
        yield "Not run yet."
        return
    columns = [there, *([c] for c in there)] if len(there) > 1 else [there]
    values = [{a: tables.over_seeds(found, a, c, seeds) for a in LONG} for c in columns]
    lines = [[f"`{a}`", *(bold(said(v[a]), a in tables.ties(v)) for v in values),
              *_megabytes(found, a, there, seeds)] for a in LONG]  # fmt: skip
    heads = ["<br>".join(reversed(c.split(", ")[2:])) for c in there]
    mean = ["mean"] if len(there) > 1 else []
    yield prose("Accuracy in %, learning rates as for the short runs; bold: the best, and ties.")
    yield tables.table(["algorithm", *mean, *heads, "MB up", "MB down"], lines)
    for other in LONG[1:]:
        gap = tables.paired(found, NAME, other, there, seeds)
        yield prose(accuracy(gap, "As good or better", other))
    yield from _missing(OPEN, there)


def _difference(gap: Estimate) -> str:
    return bold(said(gap, "+"), tables.standing(gap) != "tie")


def _missing(every: Sequence[str], there: Sequence[str]) -> Iterator[str]:
    if there and (left := [c.split(", ", 2)[2] for c in every if c not in there]):
        yield prose(f"Not run yet: {'; '.join(left)}.")


def _megabytes(found: Index, label: str, there: Sequence[str], seeds: Sequence[int]) -> list[str]:
    return [
        megabytes(tables.mean_of(found, key, label, there, seeds)) for key in ("mb_up", "mb_down")
    ]


def _total(found: Index, label: str, there: Sequence[str], seeds: Sequence[int]) -> float:
    return sum(tables.mean_of(found, key, label, there, seeds) for key in ("mb_up", "mb_down"))
