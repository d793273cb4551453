"""The section on FedHL's experiment: what was run, every algorithm's accuracy, FedHL's claim."""

from collections.abc import Iterator, Sequence

from polyrank import algorithms
from polyrank.report.panels import Line, Panel
from polyrank.report.statistics import Estimate
from polyrank.report.style import colour, dash, indices
from polyrank.report.svg import chart
from polyrank.report.words import count, listed, megabytes
from polyrank.reproduce import fedhl, tables
from polyrank.reproduce.experiment import Section
from polyrank.reproduce.fedhl_setting import rates, setting
from polyrank.reproduce.grid import Row
from polyrank.reproduce.tables import Index, bold, code, prose, said

CLAIM = 0.01  # what the paper claims at least over every other algorithm: a point
FIGURE = "fedhl-traffic.svg"
QUICK = fedhl.SEEDS[:3]


def section(rows: Sequence[Row]) -> Section:
    """The section from the rows that there are; what is missing is named."""
    found, seeds = tables.index(rows, "runs"), seeds_of(tables.index(rows, "runs"))
    figure = _figure(found, seeds)
    parts = [
        "## FedHL: cross-silo and cross-device",
        *setting(),
        "### Learning rates",
        *rates(rows),
        *(part for scale in fedhl.SCALES for mix in fedhl.MIXES
          for part in _table(found, seeds, scale, mix)),
        *([f"![Accuracy by traffic: a short bar for each algorithm](figures/{FIGURE})"]
          if figure else []),
        "### FedHL against each other algorithm",
        *_claim(found, seeds),
    ]  # fmt: skip
    return Section("\n\n".join(parts) + "\n", {FIGURE: figure} if figure else {})


def cells(scale: str, mix: str) -> list[str]:
    """The names of a table's cells, in their order."""
    return [f"{scale}, {mix}, {part}, {name}" for part in fedhl.PARTITIONS for name in fedhl.SETS]


def seeds_of(found: Index) -> Sequence[int]:
    """All seeds; those of a quick run while no cell has more."""
    every = [c for scale in fedhl.SCALES for mix in fedhl.MIXES for c in cells(scale, mix)]
    whole = tables.done(found, algorithms.names(), every, fedhl.SEEDS)
    quick = tables.done(found, algorithms.names(), every, QUICK)
    return QUICK if quick and not whole else fedhl.SEEDS


def _table(found: Index, seeds: Sequence[int], scale: str, mix: str) -> Iterator[str]:
    """Accuracy by cell, the best mean first."""
    every, labels = cells(scale, mix), algorithms.names()
    there = tables.done(found, labels, every, seeds)
    yield f"### Cross-{scale}, {mix} ranks"
    if there:
        yield prose(
            f"Test accuracy in %, mean ± half the 95 % interval over {len(seeds)} seeds; in bold "
            "the best and all whose interval overlaps its interval (a tie). MB (10⁶ bytes) are "
            "of all messages of a run, the head included, mean over the cells."
        )
        yield _lines(found, seeds, there)
    if missing := [cell.split(", ", 2)[2] for cell in every if cell not in there]:
        yield prose(f"Not run yet: {'; '.join(missing)}." if there else "Not run yet.")


def _lines(found: Index, seeds: Sequence[int], there: Sequence[str]) -> str:
    labels = algorithms.names()
    columns = [there, *([cell] for cell in there)] if len(there) > 1 else [there]
    values = [{a: tables.over_seeds(found, a, c, seeds) for a in labels} for c in columns]
    level = [tables.ties(v) for v in values]
    lines = []
    for a in sorted(labels, key=lambda a: -values[0][a].mean):
        told = [bold(said(v[a]), a in t) for v, t in zip(values, level, strict=True)]
        sent = [megabytes(tables.mean_of(found, key, a, there, seeds))
                for key in ("mb_up", "mb_down")]  # fmt: skip
        lines.append([f"`{a}`", *told, *sent])
    heads = ["<br>".join(reversed(cell.split(", ")[2:])) for cell in there]
    mean = ["mean"] if len(there) > 1 else []
    return tables.table(["algorithm", *mean, *heads, "MB up", "MB down"], lines)


def _claim(found: Index, seeds: Sequence[int]) -> Iterator[str]:
    """FedHL less each other: the table, then what it says of the paper's claim."""
    done = {mix: tables.done(found, algorithms.names(),
                             [c for s in fedhl.SCALES for c in cells(s, mix)], seeds)
            for mix in fedhl.MIXES}  # fmt: skip
    known = {mix: there for mix, there in done.items() if there}
    if not known:
        yield "Not run yet."
        return
    gaps = {mix: {a: tables.paired(found, "fedhl", a, there, seeds)
                  for a in algorithms.names() if a != "fedhl"}
            for mix, there in known.items()}  # fmt: skip
    yield prose(
        "Paired: accuracy of `fedhl` less that of the other in the same cell under the same seed, "
        "in points, mean ± half the 95 % interval over all pairs, which are taken as independent. "
        "In bold where the interval leaves out 0; of so many intervals, one in twenty does so by "
        "chance."
    )
    first = next(iter(gaps.values()))
    head = [f"{mix} ({len(there) * len(seeds)} pairs)" for mix, there in known.items()]
    yield tables.table(
        ["`fedhl` less", *head],
        [[f"`{a}`", *(bold(said(g[a], '+'), tables.standing(g[a]) != "tie")
                      for g in gaps.values())]
         for a in sorted(first, key=lambda a: -first[a].mean)],
    )  # fmt: skip
    yield from (prose(verdict(mix, g)) for mix, g in gaps.items())


def verdict(mix: str, gaps: dict[str, Estimate]) -> str:
    """Whether FedHL is 1–3 points over the others: holds, a tie, or does not hold."""
    at = {"ahead": [], "tie": [], "behind": []}  # type: dict[str, list[str]]
    for other, gap in gaps.items():
        at[tables.standing(gap)].append(other)
    enough = [a for a in at["ahead"] if gaps[a].mean >= CLAIM]
    if len(enough) == len(gaps):
        word = "holds"
    elif at["behind"] or len(enough) < len(at["ahead"]):
        word = "does not hold"
    else:
        word = "is a tie with some" if enough else "is a tie with all"
    told = {"ahead of": at["ahead"], "a tie with": at["tie"], "behind": at["behind"]}
    where = [f"{words} {listed(code(names))}" for words, names in told.items() if names]
    return (
        f"The claim that FedHL is one to three points over the others **{word}** under {mix} "
        f"ranks: it is at least a point ahead of {len(enough)} of {len(gaps)}. It is "
        f"{'; '.join(where)}."
    )


def _figure(found: Index, seeds: Sequence[int]) -> str | None:
    """Accuracy against MB, cross-silo and harsh: a short bar per algorithm at its traffic."""
    there = tables.done(found, algorithms.names(), cells("silo", "harsh"), seeds)
    if not there:
        return None
    order, lines = indices(algorithms.names()), []
    for a, i in order.items():
        mb = sum(tables.mean_of(found, key, a, there, seeds) for key in ("mb_up", "mb_down"))
        y = 100 * tables.over_seeds(found, a, there, seeds).mean
        lines.append(Line(a, [mb / 1.04, mb * 1.04], [y, y], ["", ""], colour(i), dash(i)))
    title = f"Cross-silo, harsh ranks: mean accuracy over {count(len(there), 'cell')}"
    return chart(Panel(title, "MB up + down in a run", "accuracy, %", lines, log_x=True))
