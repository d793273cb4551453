"""The parts of the toy problem's section on its laws: decay and exactness."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from polyrank.report.words import listed, number
from polyrank.reproduce import tables
from polyrank.reproduce.tables import code, prose

NOUGHT = 1e-9  # a drift or an error below it is rounding
Data = Mapping[str, Any]


def decay(rows: Sequence[Data]) -> Iterator[str]:
    """Singular values of a state that no client moves, to three digits."""
    yield prose(
        f"Idle clients, {rows[0]['rounds']} rounds: σ_j(t)/σ_j(0), measured and in brackets "
        "P_j^(k·t), where P_j is the weight of those who hold slot j. Only the slots at which P_j "
        "changes are shown; the error is the largest over all."
    )
    head = ["algorithm", "k", *(f"slot {p['slot']}, P = {p['held']:.2g}" for p in rows[0]["rows"]),
            "largest error"]  # fmt: skip
    lines = [
        [f"`{row['name']}`", str(row["power"]),
         *(f"{p['measured']:.3f} ({p['predicted']:.3f})" for p in row["rows"]),
         number(row["error"], 1)] for row in rows
    ]  # fmt: skip
    yield tables.table(head, lines)


def exactness(rows: Sequence[Data]) -> Iterator[str]:
    """How far those that say they are exact are from the dense sum."""
    off = {k: [r["name"] for r in rows if r[k] > NOUGHT] for k in ("first", "later")}
    yield prose(
        "Algorithms that say that the server's update is the weighted mean of the clients' "
        "changes: the relative distance from the dense sum, after the first round and at most in "
        f"the later ones, of {rows[0]['rounds']} rounds. Not exact in the first: "
        f"{all_of(off['first'])}; in a later "
        f"one: {all_of(off['later'])}."
    )
    lines = [[f"`{r['name']}`", number(r["first"], 1), number(r["later"], 1)] for r in rows]
    yield tables.table(["algorithm", "first round", "later rounds"], lines)


def all_of(names: Sequence[str]) -> str:
    """The names as code in a sentence, or none."""
    return listed(code(names)) if names else "none"
