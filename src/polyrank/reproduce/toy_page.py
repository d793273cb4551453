"""The section on the toy problem, from plain data: nothing is run here."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from polyrank.report import toy_plots
from polyrank.report.panels import Panel
from polyrank.report.statistics import Estimate
from polyrank.report.svg import chart
from polyrank.report.words import NOTHING, count, listed, number
from polyrank.reproduce import tables
from polyrank.reproduce.experiment import Section
from polyrank.reproduce.tables import bold, code, prose, said
from polyrank.reproduce.toy_laws_page import NOUGHT, all_of, decay, exactness

Data = Mapping[str, Any]
PANELS = {
    "toy-rounds.svg": toy_plots.by_round,
    "toy-traffic.svg": toy_plots.by_traffic,
    "toy-rates.svg": toy_plots.rates,
}
RATE = -0.5  # the slope of O(1/√T)


def section(data: Data) -> Section:
    """The section; a part that is missing or None is named as not run.

    Args:
        data: `convergence` and `sweep` as toy_figures.convergence gives them, `decay` and
            `exactness` as toy_laws does.
    """
    course, sweep = data.get("convergence"), data.get("sweep")
    parts = [
        "## The toy problem",
        "    .venv/bin/polyrank reproduce toy",
        *(_course(course) if course else ["Every algorithm: not run yet."]),
        "### Singular values of a state that no client moves",
        *(decay(data["decay"]) if data.get("decay") else ["Not run yet."]),
        "### Exactness",
        *(exactness(data["exactness"]) if data.get("exactness") else ["Not run yet."]),
        "### Catchup's open questions on the toy problem",
        *(_sweep(sweep) if sweep else ["Not run yet."]),
    ]
    panels = {name: drawn(course) for name, drawn in PANELS.items()} if course else {}
    return Section("\n\n".join(parts) + "\n", {n: chart(panel) for n, panel in panels.items()})


def _course(data: Data) -> Iterator[str]:
    yield prose(_setting(data))
    yield _methods(data)
    yield from map(prose, ours(data["rows"]))
    panels: dict[str, Panel] = {name: drawn(data) for name, drawn in PANELS.items()}
    yield from (f"![{panel.title}](figures/{name})" for name, panel in panels.items())
    yield "### The rate O(1/√T)"
    yield from map(prose, rate(data["rows"]))


def _setting(data: Data) -> str:
    s = data["setting"]
    ranks = ", ".join(f"{rank} ({len(list(same))} ×)" for rank, same in groupby(sorted(s["ranks"])))
    return (
        f"Federated linear regression of a {s['size']} × {s['size']} matrix whose optimum W* is "
        f"known, its singular values {s['largest']:g} · {s['decay']:g}^j. {len(s['ranks'])} "
        f"clients of ranks {ranks} want optima that are {s['spread']:g}·‖W*‖ from W* on average; "
        f"gradients have noise of standard deviation {s['noise']:g} in each entry, the "
        f"covariance's condition number is {s['condition']:g}. {data['rounds']} rounds of "
        f"{s['steps']} local steps, {count(len(data['seeds']), 'seed')}. Each algorithm may "
        f"choose its learning rate from {listed(f'{lr:g}' for lr in data['grid'])} under a seed "
        "of its own. Excess is the loss above the optimum's, relative to the start: 1 is the "
        "start. In bold the best and all whose 95 % interval overlaps its interval (a tie). Slope "
        "is that of log min ‖∇F‖² against log T in the second half; drift is how far the mean "
        "start of clients is from the server's model in the last round, relative to it; traffic "
        "is in thousand numbers per client and layer, all rounds."
    )


def _methods(data: Data) -> str:
    """A line per method, the least excess first, what diverged last."""
    last = {row["label"]: estimated(row["excess"][-1]) for row in data["rows"]}
    known = {label: value for label, value in last.items() if value is not None}
    level = tables.ties(known, least=True)
    worst = Estimate(math.inf, None, 0)
    order = sorted(data["rows"], key=lambda row: known.get(row["label"], worst).mean)
    lines = [
        [_named(row), bold(_figure(last[row["label"]], 4), row["label"] in level),
         _rate(row, data["grid"]), _figure(estimated(row["slope"]), 2),
         _drift(row), *(f"{row[way][-1] / 1e3:.1f}"
                                                for way in ("down", "up"))]
        for row in order
    ]  # fmt: skip
    head = ["algorithm", "excess", "learning rate", "slope", "drift", "down", "up"]
    return tables.table(head, lines)


def ours(rows: Sequence[Data]) -> Iterator[str]:
    """Catchup against FLoRA and FedHL: excess by intervals, and the traffic."""
    known = {row["label"]: row for row in rows}
    for other in ("flora", "fedhl"):
        pair = [known[a] for a in ("catchup", other) if a in known]
        ends = [value for row in pair if (value := estimated(row["excess"][-1])) is not None]
        if len(ends) == 2:
            share = [pair[0][way][-1] / pair[1][way][-1] for way in ("down", "up")]
            yield (
                f"`catchup` {_against(*ends)} `{other}` in excess, with {share[0]:.3f} times its "
                f"download and {share[1]:.3f} times its upload."
            )


def _against(own: Estimate, other: Estimate) -> str:
    if own.high < other.low:
        return "is below"
    return "is above" if own.low > other.high else "is a tie with"


def rate(rows: Sequence[Data]) -> Iterator[str]:
    """What the slopes and drifts say about the rate, in two paragraphs."""
    steep = [r["label"] for r in rows if (s := estimated(r["slope"])) and s.low <= RATE]
    still = [r["label"] for r in rows if (d := estimated(r["drift"])) and d.high < NOUGHT]
    moved = {r["label"]: d for r in rows if (d := estimated(r["drift"])) and d.high >= NOUGHT}
    yield (
        "FedHL's bound falls as O(1/√T) only where its truncation term vanishes: what clients "
        "start from must not stay apart from what the server holds. Where it does not, the bound "
        "ends at a floor, and a constant learning rate leaves a floor of gradient noise to all. "
        f"In these runs drift vanishes under {all_of(still)}; it does not under "
        + listed(f"`{a}` ({number(d.mean, 2)})" for a, d in moved.items()) + "."
    )  # fmt: skip
    fast = [a for a in steep if a in moved]
    slow = [a for a in still if a not in steep]
    yield (
        "A slope of −½ or steeper in the second half of the run, within its interval, have "
        f"{all_of(steep)}."
        + (f" Of these, {listed(code(fast))} have a drift: they did not come to the bound's "
           "floor in so many rounds." if fast else "")
        + (f" Without drift and yet slower: {listed(code(slow))}. A vanishing drift does not "
           "suffice; the rank, the noise and what is trained limit them." if slow else "")
    )  # fmt: skip


def _sweep(data: Data) -> Iterator[str]:
    known = {r["label"]: v for r in data["rows"] if (v := estimated(r["excess"][-1])) is not None}
    base = known.get("catchup")
    if base is not None:
        sets: dict[str, list[str]] = {"is below": [], "is a tie with": [], "is above": []}
        for label in (a for a in known if a != "catchup"):
            sets[_against(known[label], base)].append(label)
        told = [f"{w} it: {listed(code(names))}" for w, names in sets.items() if names]
        yield prose(f"Excess against `catchup`, by intervals over seeds: {'; '.join(told)}.")
    yield _methods(data)


def _named(row: Data) -> str:
    marks = [f"rank {row['equal_rank']}"] if row["equal_rank"] else []
    marks += ["mean of clients"] if row["personal"] else []
    return f"`{row['label']}`" + (f" ({', '.join(marks)})" if marks else "")


def _rate(row: Data, grid: Sequence[float]) -> str:
    """The learning rate, marked where the grid ends."""
    return f"{row['lr']:g}" + (" (edge)" if row["lr"] in (min(grid), max(grid)) else "")


def estimated(value: Mapping[str, Any] | None) -> Estimate | None:
    """{mean, half} as an estimate."""
    return None if value is None else Estimate(value["mean"], value["half"], 0)


def _figure(value: Estimate | None, digits: int) -> str:
    return NOTHING if value is None else said(value, digits=digits, factor=1.0)


def _drift(row: Data) -> str:
    value = estimated(row["drift"])
    return "0" if value is not None and value.high < NOUGHT else _figure(value, 3)
