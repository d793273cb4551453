"""The section on the toy problem, from plain data: nothing is run here."""

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

Data = Mapping[str, Any]
PANELS = {
    "toy-rounds.svg": toy_plots.by_round,
    "toy-traffic.svg": toy_plots.by_traffic,
    "toy-rates.svg": toy_plots.rates,
}
RATE = -0.5  # the slope of O(1/√T)
NOUGHT = 1e-9  # a drift or an error below it is rounding


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
        *(_decay(data["decay"]) if data.get("decay") else ["Not run yet."]),
        "### Exactness",
        *(_exactness(data["exactness"]) if data.get("exactness") else ["Not run yet."]),
        "### Catchup's open questions on the toy problem",
        *(_sweep(sweep) if sweep else ["Not run yet."]),
    ]
    panels = {name: drawn(course) for name, drawn in PANELS.items()} if course else {}
    return Section("\n\n".join(parts) + "\n", {n: chart(panel) for n, panel in panels.items()})


def _course(data: Data) -> Iterator[str]:
    yield prose(_setting(data))
    yield _methods(data)
    panels: dict[str, Panel] = {name: drawn(data) for name, drawn in PANELS.items()}
    yield from (f"![{panel.title}](figures/{name})" for name, panel in panels.items())
    yield "### The rate O(1/√T)"
    yield from map(prose, rate(data["rows"]))


def _setting(data: Data) -> str:
    s = data["setting"]
    ranks = ", ".join(
        f"{rank} ({len(list(same))} ×)" for rank, same in groupby(sorted(s["ranks"]))
    )
    return (
        f"Federated linear regression of a {s['size']} × {s['size']} matrix whose optimum W* is "
        f"known, its singular values {s['largest']:g} · {s['decay']:g}^j. {len(s['ranks'])} "
        f"clients of ranks {ranks} want optima that are {s['spread']:g}·‖W*‖ from W* on average; "
        f"gradients have noise of standard deviation {s['noise']:g} in each entry, the covariance's "
        f"condition number is {s['condition']:g}. {data['rounds']} rounds of {s['steps']} local "
        f"steps, {count(len(data['seeds']), 'seed')}. Each algorithm may choose its learning rate "
        f"from {listed(f'{lr:g}' for lr in data['grid'])} under a seed of its own. Excess is the "
        "loss above the optimum's, relative to the start: 1 is the start. In bold the best and all "
        "whose 95 % interval overlaps its interval (a tie). Slope is that of log min ‖∇F‖² against "
        "log T in the second half; drift is how far the mean start of clients is from the server's "
        "model in the last round, relative to it; traffic is in thousand numbers per client and "
        "layer, all rounds."
    )


def _methods(data: Data) -> str:
    """A line per method, the least excess first, what diverged last."""
    last = {row["label"]: estimated(row["excess"][-1]) for row in data["rows"]}
    known = {label: value for label, value in last.items() if value is not None}
    level = tables.ties(known, least=True)
    order = sorted(data["rows"], key=lambda row: (
        row["label"] not in known, known[row["label"]].mean if row["label"] in known else 0.0))  # fmt: skip
    lines = [
        [_named(row), bold(_figure(last[row["label"]], 4), row["label"] in level),
         _rate(row, data["grid"]), _figure(estimated(row["slope"]), 2),
         _figure(estimated(row["drift"]), 3), *(f"{row[way][-1] / 1e3:.1f}"
                                                for way in ("down", "up"))]
        for row in order
    ]  # fmt: skip
    head = ["algorithm", "excess", "learning rate", "slope", "drift", "down", "up"]
    return tables.table(head, lines)


def rate(rows: Sequence[Data]) -> Iterator[str]:
    """What the slopes and drifts say about the rate, in two paragraphs."""
    steep = [r["label"] for r in rows if (s := estimated(r["slope"])) and s.low <= RATE]
    still = [r["label"] for r in rows if (d := estimated(r["drift"])) and d.high < NOUGHT]
    moved = {r["label"]: d for r in rows if (d := estimated(r["drift"])) and d.high >= NOUGHT}
    yield (
        "FedHL's bound falls as O(1/√T) only where its truncation term vanishes: what clients "
        "start from must not stay apart from what the server holds. Where it does not, the bound "
        "ends at a floor, and a constant learning rate leaves a floor of gradient noise to all. "
        f"In these runs drift vanishes under {_all(still)}; it does not under "
        + listed(f"`{a}` ({number(d.mean, 2)})" for a, d in moved.items()) + "."
    )  # fmt: skip
    fast = [a for a in steep if a in moved]
    slow = [a for a in still if a not in steep]
    yield (
        "A slope of −½ or steeper in the second half of the run, within its interval, have "
        f"{_all(steep)}."
        + (f" {listed(code(fast))} among them with a drift: the bound's floor is not reached in "
           "so many rounds, or is loose." if fast and steep else "")
        + (f" Without drift and yet slower: {listed(code(slow))}. A vanishing drift does not "
           "suffice; the rank, the noise and what is trained limit them." if slow else "")
    )  # fmt: skip


def _decay(rows: Sequence[Data]) -> Iterator[str]:
    yield prose(
        f"Idle clients, {rows[0]['rounds']} rounds: σ_j(t)/σ_j(0), measured and in brackets "
        "P_j^(k·t), where P_j is the weight of those who hold slot j. Only the slots at which P_j "
        "changes are shown; the error is the largest over all."
    )
    head = ["algorithm", "k", *(f"slot {p['slot']}, P = {p['held']:.1f}" for p in rows[0]["rows"]),
            "largest error"]  # fmt: skip
    lines = [
        [f"`{row['name']}`", str(row["power"]),
         *(f"{p['measured']:.3f} ({p['predicted']:.3f})" for p in row["rows"]),
         number(row["error"], 1)] for row in rows
    ]  # fmt: skip
    yield tables.table(head, lines)


def _exactness(rows: Sequence[Data]) -> Iterator[str]:
    off = {k: [r["name"] for r in rows if r[k] > NOUGHT] for k in ("first", "later")}
    yield prose(
        "Algorithms that say that the server's update is the weighted mean of the clients' "
        "changes: the relative distance from the dense sum, after the first round and at most in "
        f"the later ones, of {rows[0]['rounds']} rounds. Not exact in the first: "
        f"{_all(off['first'])}; in a later "
        f"one: {_all(off['later'])}."
    )
    lines = [[f"`{r['name']}`", number(r["first"], 1), number(r["later"], 1)] for r in rows]
    yield tables.table(["algorithm", "first round", "later rounds"], lines)


def _sweep(data: Data) -> Iterator[str]:
    known = {r["label"]: v for r in data["rows"] if (v := estimated(r["excess"][-1])) is not None}
    base = known.get("catchup")
    if base is not None:
        others = {a: v for a, v in known.items() if a != "catchup"}
        sets = {
            "less": [a for a, v in others.items() if v.high < base.low],
            "a tie": [a for a, v in others.items() if v.low <= base.high and base.low <= v.high],
            "more": [a for a, v in others.items() if v.low > base.high],
        }
        told = [f"{w}: {listed(code(names))}" for w, names in sets.items() if names]
        yield prose(f"Excess against `catchup` as it is, by intervals over seeds: {'; '.join(told)}.")
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


def _all(names: Sequence[str]) -> str:
    return listed(code(names)) if names else "none"
