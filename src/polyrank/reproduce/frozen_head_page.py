"""The section on the frozen head: does rank matter, and who makes the most of it."""

from collections.abc import Iterator, Sequence

from polyrank.recipe.load import load
from polyrank.report.words import count, listed, megabytes
from polyrank.reproduce import fedhl, frozen_head, tables
from polyrank.reproduce.catchup_page import SHARE, accuracy
from polyrank.reproduce.experiment import Section
from polyrank.reproduce.fedhl_setting import rates
from polyrank.reproduce.frozen_head import HIGHEST, SEEDS
from polyrank.reproduce.grid import Row
from polyrank.reproduce.tables import Index, bold, code, prose, said

OURS = "catchup"


def section(rows: Sequence[Row]) -> Section:
    """The section from the rows that there are; what is missing is named."""
    found, labels = tables.index(rows, "runs"), frozen_head.labels()
    every = [frozen_head.cell(p, n) for p in frozen_head.PARTITIONS for n in frozen_head.SETS]
    few = SEEDS[:3]
    whole = tables.done(found, labels, every, SEEDS)
    seeds = SEEDS if whole or not tables.done(found, labels, every, few) else few
    there = tables.done(found, labels, every, seeds)
    parts = [
        "## Where rank matters: a frozen head",
        *_setting(),
        "### Learning rates",
        *rates(rows, labels, frozen_head.RATES),
        "### Every algorithm",
        *(_outcome(found, there, seeds) if there else ["Not run yet."]),
    ]
    if there and (left := [c.split(", ", 2)[2] for c in every if c not in there]):
        parts.append(prose(f"Not run yet: {'; '.join(left)}."))
    return Section("\n\n".join(parts) + "\n", {})


def _setting() -> Iterator[str]:
    recipe = load(frozen_head.RECIPE, list(frozen_head.FROZEN)).recipe
    yield "    .venv/bin/polyrank reproduce frozen-head"
    yield prose(
        "FedHL's cross-silo setting with harsh ranks, but the head stays as it was drawn, so that "
        "the factors have to do all, as in a language model; nothing but factors travels. "
        f"{recipe.rounds} rounds of {recipe.local.steps} steps, {listed(frozen_head.SETS)}, "
        f"partitions {listed(code(frozen_head.PARTITIONS))}, {count(len(SEEDS), 'seed')}. With a "
        "head that is trained, rank 1 is as good as rank 64 on these tasks (LOG.md), and no way of "
        f"treating ranks can show. `{HIGHEST}` is FedIT as if everyone could afford it; "
        f"algorithms for equal ranks have the mean rank, {fedhl.MIXES[frozen_head.MIX][1]}."
    )
    yield prose(
        f"What `{OURS}` does now (a mean over those who train a direction, one seed for all fresh "
        "rows) was chosen on validation data of dirichlet(0.5) under two other seeds; no test "
        "data and none of the seeds below were looked at before."
    )


def _outcome(found: Index, there: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    labels = frozen_head.labels()
    columns = [there, *([c] for c in there)]
    values = [{a: tables.over_seeds(found, a, c, seeds) for a in labels} for c in columns]
    level = [tables.ties(v) for v in values]
    lines = []
    for a in sorted(labels, key=lambda a: -values[0][a].mean):
        told = [bold(said(v[a]), a in t) for v, t in zip(values, level, strict=True)]
        gap = "" if a == OURS else _less(found, a, there, seeds)
        sent = [megabytes(tables.mean_of(found, key, a, there, seeds))
                for key in ("mb_up", "mb_down")]  # fmt: skip
        lines.append([f"`{a}`", *told, gap, *sent])
    heads = ["<br>".join(reversed(c.split(", ")[2:])) for c in there]
    yield prose(
        f"Test accuracy in %, mean ± half the 95 % interval over {len(seeds)} seeds; in bold the "
        f"best and all whose interval overlaps its interval. `{OURS}` less: paired by cell and "
        "seed, in points, over all pairs, taken as independent; in bold where it leaves out 0. MB "
        "(10⁶ bytes) of all messages of a run, mean over the cells."
    )
    head = ["algorithm", "mean", *heads, f"`{OURS}` less", "MB up", "MB down"]
    yield tables.table(head, lines)
    yield from _verdicts(found, there, seeds)


def _less(found: Index, other: str, there: Sequence[str], seeds: Sequence[int]) -> str:
    gap = tables.paired(found, OURS, other, there, seeds)
    return bold(said(gap, "+"), tables.standing(gap) != "tie")


def _verdicts(found: Index, there: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    rank = tables.paired(found, HIGHEST, "fedit", there, seeds)
    yield prose(
        f"Rank matters here: `{HIGHEST}` less `fedit` at the mean rank {said(rank, '+')} points."
    )
    top = tables.paired(found, OURS, HIGHEST, there, seeds)
    yield prose(accuracy(top, "As good as if everyone could afford the highest rank", HIGHEST))
    share = tables.mean_of(found, "mb_down", OURS, there, seeds) / tables.mean_of(
        found, "mb_down", "flora", there, seeds
    )
    flora = tables.paired(found, OURS, "flora", there, seeds)
    yield prose(
        f"{accuracy(flora, 'FLoRA’s accuracy or better', 'flora')} Its download is {share:.3f} of "
        f"FLoRA's, {'at most' if share <= SHARE else 'more than'} an eighth."
    )
    hl = tables.paired(found, OURS, "fedhl", there, seeds)
    yield prose(accuracy(hl, "Better than FedHL for the same traffic", "fedhl", strict=True))
    gaps = {a: tables.paired(found, OURS, a, there, seeds) for a in frozen_head.labels()
            if a not in (OURS, HIGHEST)}  # fmt: skip
    by = {s: [a for a, g in gaps.items() if tables.standing(g) == s]
          for s in ("ahead", "tie", "behind")}  # fmt: skip
    told = {"ahead of": by["ahead"], "a tie with": by["tie"], "behind": by["behind"]}
    where = [f"{words} {listed(code(names))}" for words, names in told.items() if names]
    yield prose(f"Of the {len(gaps)} others `{OURS}` is {'; '.join(where)}.")
