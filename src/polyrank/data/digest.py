"""The fingerprints of texts, tables and files, so that records say what was read."""

import json
from pathlib import Path
from typing import Any

from polyrank.seeds import fingerprint


def of_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, in hexadecimal."""
    return fingerprint(text.encode())


def of_json(value: Any) -> str:
    """SHA-256 of a value's JSON, in hexadecimal; tuples count as lists."""
    return of_text(json.dumps(value, sort_keys=True))


def of_file(path: Path) -> str:
    """SHA-256 of a file as it lies on disk, in hexadecimal."""
    return fingerprint(path.read_bytes())
