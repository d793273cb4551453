"""How much memory is free on this machine or in the process's container, and how much it has."""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

_ROOT = Path("/")
_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss


def free(device: torch.device, root: Path = _ROOT) -> int | None:
    """Bytes that can still be had; None where nothing says so.

    The least of what the system has available and what control groups (version 2 or 1) leave.

    Args:
        device: where the model is.
        root: where `proc` and `sys` are.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min((*_system(root), *_groups(root)), default=None)


def resident() -> int:
    """Bytes of memory that this process has now."""
    return _status("VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def forget_peak() -> None:
    """Let `peak` begin anew, where the system can (Linux); else it is of the process's life."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes of memory that this process has had."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def give_back() -> None:
    """Return memory that was let go of to the system: by itself glibc keeps some of it.

    What loading a model takes for a moment, a billion bytes and more, may else stay.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _status(key: str) -> int:
    lines = _read(Path("/proc/self/status")).splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def _system(root: Path) -> Iterator[int]:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            yield int(rest.split()[0]) * 1024
            return
    names = ("SC_AVPHYS_PAGES", "SC_PAGE_SIZE")
    if root == _ROOT and all(name in os.sysconf_names for name in names):
        yield os.sysconf(names[0]) * os.sysconf(names[1])


def _groups(root: Path) -> Iterator[int]:
    """What is left under the limit of the process's group, and of each one above it."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, kinds, path = line.split(":", 2)
        if not kinds:
            top, files = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in kinds.split(","):
            top = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = top / path.lstrip("/")
        for folder in (own, *own.parents[: len(own.parts) - len(top.parts)]):
            limit, used = (_read(folder / name).strip() for name in files)
            if limit.isdigit() and used.isdigit():
                yield max(0, int(limit) - int(used) + _reclaimable(folder))


def _reclaimable(group: Path) -> int:
    """Bytes of the file cache that the system takes back when it needs them."""
    rows = (line.split() for line in _read(group / "memory.stat").splitlines())
    found = {name: int(value) for name, value in rows}
    return found.get("total_inactive_file", found.get("inactive_file", 0))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
