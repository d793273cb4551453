"""The figures of the global update: its singular values and effective rank."""

from collections.abc import Sequence
from typing import Any

from polyrank.report import figures, maps
from polyrank.report.format import Round, Spectrum
from polyrank.report.panels import Heat, Line, Panel
from polyrank.report.plots import lines, plain
from polyrank.report.records import RunRecords
from polyrank.report.statistics import Groups, counted, curve
from polyrank.report.style import colour, dash, indices
from polyrank.report.words import number

SHOWN = 7  # rounds in a figure of spectra


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
        Panel(
            "Effective rank by round",
            "round",
            "effective rank",
            lines(points, plain),
            from_zero=True,
        ),
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
    return maps.heats(
        [Heat(title, along, "", list(columns), _ends(names), z, text)], 1, "eff. rank"
    )


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
