"""Every random number in the package comes from a named path under one root seed.

derive(seed, "sample", round)      # the same generator on every machine, in every process
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def number(root: int, *path: str | int) -> int:
    """A 63-bit seed for `path` under `root`: the first bytes of SHA-256 over both."""
    digest = hashlib.sha256(repr((root, *path)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def derive(root: int, *path: str | int) -> torch.Generator:
    """A fresh CPU generator for `path` under `root`."""
    return torch.Generator().manual_seed(number(root, *path))


def fingerprint(data: bytes) -> str:
    """SHA-256 of some content, as hexadecimal digits: its name in caches and checkpoints."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def seeded(root: int, *path: str | int) -> Iterator[None]:
    """Seed torch's global generators inside the block (dropout reads them); restore after."""
    with torch.random.fork_rng():
        torch.manual_seed(number(root, *path))
        yield
