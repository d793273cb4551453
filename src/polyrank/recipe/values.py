"""The kinds of value a recipe is made of, each with the words for a wrong one."""

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from polyrank.errors import nearest

FOLDER_NAME = r"[\w.,=+@-]+"
PERCENT = r"(\d+\.?\d*|\.\d+) ?%"
ALPHA = r"(-?\d*\.?\d+(?:[eE][-+]?\d+)?)"
MIXED = rf"mixed\({PERCENT}, ?{ALPHA}, ?{ALPHA}\)"
PARTITION = rf"iid|dirichlet\({ALPHA}\)|{MIXED}|shards\([1-9]\d*\)|key\([^()]+\)"
KEYED = r"key\(([^()]+?)(?:, ?([1-9]\d*))?\)"
SHARE = "a share, such as 60% or 0.6"
# Aggregation weights by name, with the name of the number in brackets where there is one.
WEIGHTS = {
    "data": "", "uniform": "", "norm": "", "fedhl": "kappa", "regularised": "tau", "coherent": "c",
}  # fmt: skip
WEIGHTING = r"(\w+)(?:\((\d*\.?\d+(?:[eE][-+]?\d+)?)\))?"
FORMS = ("iid", "dirichlet(0.5)", "mixed(10%, 100, 0.3)", "shards(2)", "key(column)")
TRACKERS = ("tensorboard", "wandb", "mlflow")
ROLES = ("instruction", "input", "response", "messages", "prompt", "text")  # parts of a row


def conflict(key: str, problem: str) -> PydanticCustomError:
    """A mistake between keys; `key` is the one to change, relative to the part that checks."""
    return PydanticCustomError("conflict", "{problem}", {"key": key, "problem": problem})


def one_rank_each(ranks: int, clients: int) -> str:
    """The words for a list of ranks that does not fit the number of clients."""
    return f"{ranks} ranks for {clients} clients; a list has one rank for each client"


def one_memory_each(sizes: int, clients: int) -> str:
    """The words for a list of memories that does not fit the number of clients."""
    return f"{sizes} sizes for {clients} clients; a list has one size for each client"


def _folder_name(value: str) -> str:
    if not re.fullmatch(FOLDER_NAME, value) or not value.strip("."):
        raise ValueError("is not a name for a folder (letters, digits and . , = + @ - _)")
    return value


def known_partition(value: str) -> str:
    """`value`, one of FORMS with other arguments.

    Raises:
        ValueError: it is not; the words go after the value.
    """
    match = re.fullmatch(PARTITION, value)
    if match is None:
        raise ValueError(f"is not a partition; {nearest(value, FORMS)}")
    one, percent, *two = match.groups()
    if percent and not 0 < Fraction(percent) <= 100:
        raise ValueError("needs a share above 0% and at most 100%")
    if not all(0 < float(alpha) < math.inf for alpha in (one, *two) if alpha):
        raise ValueError("needs an alpha above 0")
    return value


def keyed(partition: str) -> tuple[str, int | None] | None:
    """(column of owners, how many of them: None is all) of key(...); None for other kinds."""
    match = re.fullmatch(KEYED, partition)
    return match and (match[1], int(match[2]) if match[2] else None)


def mixture(partition: str) -> tuple[Fraction, float, float] | None:
    """(share, alpha of these clients, alpha of the others) of mixed(...); None for other kinds."""
    match = re.fullmatch(MIXED, partition)
    return match and (Fraction(match[1]) / 100, float(match[2]), float(match[3]))


def _weighting(value: str) -> str:
    match = re.fullmatch(WEIGHTING, value)
    forms = [f"{name}({number})" if number else name for name, number in WEIGHTS.items()]
    if match is None or match[1] not in WEIGHTS or (match[2] and not WEIGHTS[match[1]]):
        hint = nearest(match[1] if match else value, WEIGHTS)
        hint = hint if hint.startswith("did") else f"valid: {', '.join(forms)}"
        raise ValueError(f"is not a way to weigh clients; {hint}")
    return value


def _known_parts(value: dict[str, str]) -> dict[str, str]:
    for part in value:
        if part not in ROLES:
            raise ValueError(f"names {part!r}, which is no part of an example; valid: "
                             f"{', '.join(ROLES)}")  # fmt: skip
    return value


def _known_trackers(value: Any) -> Any:
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list | tuple):
        raise ValueError(f"is not a tracker or a list of some; valid: {', '.join(TRACKERS)}")
    for name in named:
        if name not in TRACKERS:
            raise ValueError(f"names {name!r}, which is no tracker; {nearest(str(name), TRACKERS)}")
        if named.count(name) > 1:
            raise ValueError(f"names {name!r} twice")
    return named


def _filled(value: Any) -> Any:
    if value == "":
        raise ValueError("is empty")
    return value


def _share(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(PERCENT, value)
    if match is None or float(match[1]) > 100:
        raise ValueError(f"is not {SHARE}")
    return float(match[1] + "e-2")  # not /100, so that 33.4% is exactly 0.334


def _whole(mix: dict[Any, float]) -> dict[Any, float]:
    total = math.fsum(mix.values())
    if abs(total - 1) > 1e-6:
        raise ValueError(f"adds up to {100 * total:.6g}%, not 100%")
    return mix


Text = Annotated[str, Field(min_length=1)]
File = Annotated[Path, Field(strict=False), BeforeValidator(_filled)]
FolderName = Annotated[
    str, AfterValidator(_folder_name), Field(json_schema_extra={"pattern": f"^{FOLDER_NAME}$"})
]
Partition = Annotated[
    str, AfterValidator(known_partition), Field(json_schema_extra={"pattern": f"^({PARTITION})$"})
]
Weighting = Annotated[
    str, AfterValidator(_weighting), Field(json_schema_extra={"pattern": f"^{WEIGHTING}$"})
]
Names = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
_Tracker = Annotated[str, Field(json_schema_extra={"enum": list(TRACKERS)})]
Trackers = Annotated[
    tuple[_Tracker, ...],
    Field(strict=False),
    BeforeValidator(_known_trackers, json_schema_input_type=_Tracker | tuple[_Tracker, ...]),
]

Fields = Annotated[dict[Text, Text], AfterValidator(_known_parts)]

Rank = Annotated[int, Field(strict=True, ge=1)]
_Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
_Percent = Annotated[str, Field(pattern=f"^{PERCENT}$")]
Share = Annotated[_Fraction, BeforeValidator(_share, json_schema_input_type=_Percent | _Fraction)]
Whole = AfterValidator(_whole)
Mix = Annotated[
    dict[Rank, Share],
    Whole,
    Field(json_schema_extra={"propertyNames": {"pattern": "^[1-9][0-9]*$"}}),
]
