"""The record of a run: a file of JSON lines that survives a kill, and views of it.

A line counts once its newline is on disk: what follows the last newline was cut off by a kill.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import fsum
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from polyrank import files
from polyrank.errors import StorageError
from polyrank.report.format import RECORD, Bytes, Final, Measured, Record, Round, Run
from polyrank.report.metric import METRICS, Metric

FILE = "records.jsonl"
MB = 1e6  # bytes
Way = Literal["up", "down"]
WAYS: tuple[Way, Way] = ("up", "down")


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line and wait until it is on disk; the rest of a line cut off by a kill goes.

    Raises:
        StorageError: the record is not of a known kind and shape, or the file cannot be written.
    """
    text = json.dumps(_finite(record), allow_nan=False)
    _parse(text, f"a new record for {path}")
    try:
        with path.open("a+b") as file:
            cut_broken_line(file.fileno())
            file.write(text.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror})") from error


def read(path: Path) -> list[Record]:
    """All records, in order; a last line without its newline is ignored.

    Raises:
        StorageError: no such file, or a line that is not a record (named as file:line).
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror})") from error
    return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def rewind(path: Path, round: int) -> None:
    """Keep the run record and the rounds up to `round`, as if the run had stopped there.

    Raises:
        StorageError: as for reading and writing.
    """
    kept = [r for r in read(path) if _until(r, round)]
    files.write(path, "".join(json.dumps(r, allow_nan=False) + "\n" for r in kept).encode())


@dataclass(frozen=True)
class RunRecords:
    """One run as recorded so far; `final` is None while it has not come to its end."""

    run: Run
    rounds: tuple[Round, ...] = ()
    final: Final | None = None

    @property
    def label(self) -> str:
        return self.run["label"]

    @property
    def name(self) -> str:
        return self.run["name"]

    @property
    def seed(self) -> int:
        return self.run["seed"]

    @property
    def complete(self) -> bool:
        return self.final is not None

    @property
    def planned(self) -> int | None:
        """The number of rounds that the recipe asks for."""
        return self.run["recipe"].get("rounds")

    @property
    def done(self) -> int:
        """The number of the last recorded round."""
        return self.rounds[-1]["round"] if self.rounds else 0

    @property
    def test(self) -> Measured | None:
        """The final measurement, else the last one so far."""
        if self.final is not None and self.final["test"] is not None:
            return self.final["test"]
        return next((r["test"] for r in reversed(self.rounds) if r["test"] is not None), None)

    @property
    def accuracy(self) -> float | None:
        """Of classes; of a language model, of the next token."""
        return self.test["accuracy"] if self.test else None

    @property
    def metric(self) -> Metric:
        """What the run's models are judged by."""
        return METRICS[self.run.get("metric", "accuracy")]

    @property
    def value(self) -> float | None:
        """The run's result, in its metric."""
        return self.metric.of(self.test)

    @property
    def first_value(self) -> float | None:
        """The same before training (round 0), if it was measured."""
        first = self.rounds[0] if self.rounds and self.rounds[0]["round"] == 0 else None
        return self.metric.of(first and first["test"])

    @property
    def seconds(self) -> float:
        """Wall time of the run, or of its rounds so far."""
        return self.final["seconds"] if self.final else fsum(r["seconds"] for r in self.rounds)

    @cached_property
    def up(self) -> tuple[float, ...]:
        """MB uploaded by all clients until the end of each recorded round."""
        return _cumulative(self.rounds, "up")

    @cached_property
    def down(self) -> tuple[float, ...]:
        """MB downloaded by all clients until the end of each recorded round."""
        return _cumulative(self.rounds, "down")


def load(path: Path) -> RunRecords:
    """The run in a run folder or records file.

    Raises:
        StorageError: as for reading, or the file does not begin with a run record.
    """
    file = path / FILE if path.is_dir() else path
    return gathered(read(file), str(file))


def gathered(records: Sequence[Record], where: str) -> RunRecords:
    """The run that these records are of.

    Args:
        records: in their order.
        where: they come from, for the error.

    Raises:
        StorageError: they do not begin with a run record.
    """
    if not records or records[0]["kind"] != "run":
        raise StorageError(f"{where} does not begin with a run record; give the folder of a run")
    rounds = tuple(r for r in records if r["kind"] == "round")
    finals = [r for r in records if r["kind"] == "final"]
    return RunRecords(records[0], rounds, finals[-1] if finals else None)


def sent(record: Round, way: Way) -> list[Bytes]:
    """The messages of a round, also of clients that were left out of it."""
    return [client[way] for client in (*record["clients"], *record.get("left_out", []))]


def _cumulative(rounds: Iterable[Round], way: Way) -> tuple[float, ...]:
    return tuple(accumulate(sum(b["total"] for b in sent(r, way)) / MB for r in rounds))


def _until(record: Record, round: int) -> bool:
    return record["kind"] == "run" or (record["kind"] == "round" and record["round"] <= round)


def _parse(line: str | bytes, where: str) -> Record:
    try:
        return RECORD.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        problem = f"{key}: {first['msg']}" if key else first["msg"]
        raise StorageError(f"{where} is not a run record ({problem})") from None


def _finite(value: Any) -> Any:
    """The same JSON with null for NaN and the infinities."""
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cut_broken_line(file: int) -> None:
    """Cut what follows the last newline of an open file: a kill left it there."""
    size = os.fstat(file).st_size
    tail = os.pread(file, size, 0) if size and os.pread(file, 1, size - 1) != b"\n" else None
    if tail is not None:
        os.ftruncate(file, tail.rfind(b"\n") + 1)
