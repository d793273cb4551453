"""Rows of local files: CSV, TSV and JSON lines, gzipped or not; every mistake has a line."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from polyrank.errors import DataError, nearest

Row = tuple[str, Mapping[str, Any]]  # where it stands ("train.csv:17"), and its fields
DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
HELD_OUT = ("test", "dev", "val")  # how a held-out file's name starts, the best first
CLASS_NAMES = ("labels.json", "categories.json")


def find(path: Path, test: Path | None) -> tuple[list[Path], list[Path]]:
    """The training files and the held-out files (none where the data has no such split).

    Args:
        path: one file, or a folder with train* and test* (or dev*, val*) files.
        test: the held-out file, where it is named.

    Raises:
        DataError: something is not there.
    """
    train = [path]
    held_out = [test] if test else []
    if path.is_dir():
        train = _starting(path, "train")
        if not train:
            names = sorted(file.name for file in _data_files(path))
            raise DataError(
                f"{path}: no file whose name starts with 'train'; give one as data.path, of: "
                f"{', '.join(names) or 'no data files here'}"
            )
        options = (_starting(path, prefix) for prefix in HELD_OUT)
        held_out = held_out or next(filter(None, options), [])
    for file in (*train, *held_out):
        _check(file)
    return train, held_out


def read(paths: Iterable[Path]) -> Iterator[Row]:
    """All rows of `paths`, one file after the other.

    Raises:
        DataError: a line that is not UTF-8, not a JSON object, or not as wide as its header.
    """
    return chain.from_iterable(map(_rows, paths))


def class_names(path: Path) -> tuple[str, list[str]] | None:
    """The file that names the classes in a folder (a JSON list of strings), and its names."""
    for file in (path / name for name in CLASS_NAMES):
        if file.is_file():
            names = _json(file.name, file.read_bytes())
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                return str(file), names
    return None


def _rows(path: Path) -> Iterator[Row]:
    delimiter = DELIMITERS.get(_format(path))
    return _table(path, delimiter) if delimiter else _objects(path)


def _objects(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            where = f"{path}:{number}"
            row = _json(where, line)
            if not isinstance(row, dict):
                raise DataError(f"{where}: not a JSON object; a file has one object in each line")
            yield where, row


def _table(path: Path, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        for fields in filter(None, reader):
            where = f"{path}:{reader.line_num}"
            if len(fields) != len(header):
                raise DataError(f"{where}: {len(fields)} fields, but the header has {len(header)}")
            yield where, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}") from error


def _lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 ({error.reason}); save the file in that encoding"
        raise DataError(f"{path}:{number}: {problem}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read after line {number}: {error}") from error


def _json(where: str, text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from error


def _format(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _data_files(folder: Path) -> list[Path]:
    formats = {*DELIMITERS, *JSON_LINES}
    return sorted(file for file in folder.iterdir() if file.is_file() and _format(file) in formats)


def _starting(folder: Path, prefix: str) -> list[Path]:
    return [file for file in _data_files(folder) if file.name.lower().startswith(prefix)]


def _check(path: Path) -> None:
    if not path.exists():
        folder = path.parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        hint = nearest(path.name, names) if names else f"nor is there anything in {folder}"
        raise DataError(f"{path}: no such file or folder; {hint}")
    if _format(path) not in (*DELIMITERS, *JSON_LINES):
        known = ", ".join((*DELIMITERS, *JSON_LINES))
        raise DataError(f"{path}: not a format that can be read; use {known} (each also with .gz)")
