"""The figures that explain: the update's spectrum, aggregation weights, what algorithms report."""

from collections.abc import Callable, Sequence
from typing import Any

from polyrank.report import figures
from polyrank.report.clients import last_ranks
from polyrank.report.figures import Heat, Line, Panel
from polyrank.report.format import Round, Spectrum, Trained
from polyrank.report.plots import lines
from polyrank.report.records import RunRecords
from polyrank.report.statistics import Estimate, Groups, counted, curve
from polyrank.report.style import GREY, colour, dash, indices
from polyrank.report.words import number

SHOWN = 7  # rounds in a figure of spectra
OF_CLIENT = Callable[[Round, Trained], float | None]


def ranks_and_last_spectrum(groups: Groups) -> Any | None:
    """Effective rank of the global update by round, and its last spectrum."""
    points = {label: curve(runs, _effective_rank) for label, runs in groups.items()}
    if not any(points.values()):
        return None
    order = indices(groups)
    last = []
    for label, runs in groups.items():
        if found := _spectra(counted(runs)[0]):
            round, spectrum = list(found.items())[-1]
            line = _decay(label, round, spectrum, colour(order[label]), dash(order[label]))
            last.append(Line(label, *line))
    panels = [
        Panel("Effective rank by round", "round", "effective rank", lines(points, _plain)),
        Panel(
            "Spectrum after the last round",
            "singular value, by size",
            "σ (mean over layers)",
            last,
            log_y=True,
        ),
    ]
    return figures.lines(panels, columns=2)


def spectra(groups: Groups) -> Any | None:
    """The spectrum after some rounds, a panel for each label, one colour for each round."""
    found = {label: _spectra(counted(runs)[0]) for label, runs in groups.items()}
    found = {label: spectra for label, spectra in found.items() if spectra}
    rounds = _some(sorted({t for spectra in found.values() for t in spectra}))
    if not rounds:
        return None
    shades = dict(zip(rounds, figures.sequence(len(rounds)), strict=True))
    panels = [
        Panel(
            label,
            "singular value, by size",
            "σ",
            [
                Line(f"round {t}", *_decay(label, t, spectra[t], shades[t], "solid"))
                for t in rounds
                if t in spectra
            ],
            log_y=True,
        )
        for label, spectra in found.items()
    ]
    return figures.lines(panels, min(3, len(panels)), height=270, shared=True)


def layers(groups: Groups) -> Any | None:
    """Effective rank by layer: by round for a single label, else by label after the last round."""
    found = {label: _layers(counted(runs)[0]) for label, runs in groups.items()}
    if len(found) == 1:
        columns = {str(t): ranks for t, ranks in next(iter(found.values())).items()}
    else:
        columns = {label: list(by.values())[-1] for label, by in found.items() if by}
    names = list(dict.fromkeys(layer for ranks in columns.values() for layer in ranks))
    if not names:
        return None
    z = [[ranks.get(layer) for ranks in columns.values()] for layer in names]
    text = [
        [
            f"{column}\n{layer}\neffective rank {number(value)}"
            for column, value in zip(columns, row, strict=True)
        ]
        for layer, row in zip(names, z, strict=True)
    ]
    along = "round" if len(found) == 1 else ""
    title = "Effective rank by layer" + ("" if along else " after the last round")
    return figures.heats(
        [Heat(title, along, "", list(columns), _ends(names), z, text)], 1, "eff. rank"
    )


def by_client(groups: Groups, value: OF_CLIENT, name: str) -> Any | None:
    """A heat map of a client's value by round for each label that reports one (first seed)."""
    maps = []
    for label, runs in groups.items():
        run = counted(runs)[0]
        ranks = last_ranks(run)
        rounds = [r for r in run.rounds if r["clients"]]
        table = [{c["id"]: value(r, c) for c in r["clients"]} for r in rounds]
        z = [[column.get(id) for column in table] for id in ranks]
        if not any(v is not None for row in z for v in row):
            continue
        text = [
            [
                f"{label}\nclient {id}, rank {rank}, round {r['round']}\n{name} {number(v)}"
                for r, v in zip(rounds, row, strict=True)
            ]
            for (id, rank), row in zip(ranks.items(), z, strict=True)
        ]
        names = [f"{id} (r {rank})" for id, rank in ranks.items()]
        times = [str(r["round"]) for r in rounds]
        maps.append(Heat(label, "round", "client (its rank)", times, names, z, text))
    return figures.heats(maps, min(2, len(maps)), name) if maps else None


def reported(groups: Groups) -> Any | None:
    """Every number that algorithms report by round, a panel for each."""
    panels = []
    for key in _numbers(groups):
        points = {label: curve(runs, _info(key)) for label, runs in groups.items()}
        drawn = lines(points, _plain, limits=(float("-inf"), float("inf")))
        if key == "n_eff":
            drawn += [_participants(counted(next(iter(groups.values())))[0])]
        panels.append(Panel(_TITLES.get(key, key.replace("_", " ")), "round", key, drawn))
    return figures.lines(panels, min(2, len(panels)), height=280) if panels else None


_TITLES = {
    "n_eff": "Effective number of clients, N_eff = 1/Σp²",
    "drift": "Drift term of the convergence bound",
}


def _effective_rank(record: Round) -> float | None:
    spectrum = record.get("spectrum")
    return spectrum["effective_rank"] if spectrum else None


def _spectra(run: RunRecords) -> dict[int, Spectrum]:
    found = {r["round"]: s for r in run.rounds if (s := r.get("spectrum"))}
    return {t: s for t, s in found.items() if any(s["values"])}


def _layers(run: RunRecords) -> dict[int, dict[str, float | None]]:
    return {t: s["layers"] for t, s in _spectra(run).items() if s.get("layers")}


def _ends(names: Sequence[str]) -> list[str]:
    """Dotted names without the parts that they all begin with."""
    parts = [name.split(".") for name in names]
    same = 0
    while all(len(p) > same + 1 for p in parts) and len({p[same] for p in parts}) == 1:
        same += 1
    return [".".join(p[same:]) for p in parts]


def _decay(
    label: str, round: int, spectrum: Spectrum, shade: str, dash: str
) -> tuple[list[float], list[float | None], list[str], str, str]:
    """Zeros have no place on a log axis: they end the line."""
    values = [v or None for v in spectrum["values"]]
    text = [f"{label}, round {round}\nσ_{i} = {number(v)}" for i, v in enumerate(values, start=1)]
    return [float(i) for i in range(1, len(values) + 1)], values, text, shade, dash


def _some(rounds: Sequence[int]) -> list[int]:
    """At most SHOWN of the rounds, evenly spread, with the first and the last."""
    if len(rounds) <= SHOWN:
        return list(rounds)
    return [rounds[round(i * (len(rounds) - 1) / (SHOWN - 1))] for i in range(SHOWN)]


def _info(key: str) -> Callable[[Round], float | None]:
    def value(record: Round) -> float | None:
        found: object = record.get("info", {}).get(key)
        number = isinstance(found, int | float) and not isinstance(found, bool)
        return float(found) if number else None  # type: ignore[arg-type]

    return value


def _numbers(groups: Groups) -> list[str]:
    """Keys with a number in some round, N_eff first."""
    keys = {
        key: None
        for runs in groups.values()
        for record in counted(runs)[0].rounds
        for key in record.get("info", {})
        if _info(key)(record) is not None
    }
    return sorted(keys, key=lambda key: (key != "n_eff", key))


def _participants(run: RunRecords) -> Line:
    taking_part = {r["round"]: len(r["clients"]) for r in run.rounds if r["clients"]}
    text = [f"{n} clients in round {t}" for t, n in taking_part.items()]
    x, y = [float(t) for t in taking_part], [float(n) for n in taking_part.values()]
    return Line("clients in the round", x, y, text, GREY, "dot")


def _plain(value: Estimate) -> str:
    half = "" if value.half is None else f" ± {number(value.half, 2)}"
    return f"{number(value.mean)}{half}"
