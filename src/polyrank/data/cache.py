"""Corpora that took seconds to build, kept as gzipped JSON in the user's cache folder."""

import gzip
import json
import os
import zlib
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyrank import files
from polyrank.data import digest
from polyrank.data.examples import Corpus, Examples
from polyrank.errors import StorageError


def folder() -> Path:
    """`polyrank` in $XDG_CACHE_HOME, or in ~/.cache where that is not an absolute path."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path("~/.cache").expanduser()) / "polyrank"


def store(path: Path, corpus: Corpus) -> None:
    """Write `corpus` in one step; a folder that cannot be written is no error, only slower."""
    payload = asdict(corpus)
    content = gzip.compress(json.dumps([digest.of_json(payload), payload]).encode(), mtime=0)
    with suppress(StorageError):
        files.write(path, content)


def load(path: Path) -> Corpus | None:
    """The corpus in `path`; None where there is none, or not the one that was written."""
    try:
        written, payload = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError, TypeError):
        return None
    return _corpus(payload) if digest.of_json(payload) == written else None


def _corpus(payload: dict[str, Any]) -> Corpus:
    train, test = (
        Examples(**{name: one and tuple(one) for name, one in payload[split].items()})
        for split in ("train", "test")
    )
    return Corpus(train, test, tuple(payload["labels"]), payload["source"])
