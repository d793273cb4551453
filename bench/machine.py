"""The machine: what it is, and how fast it multiplies and copies with the threads of this run."""

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from bench.section import Row
from polyrank.lora import products

ROOT = Path(__file__).parents[1]
ONEDNN = "float32 by oneDNN"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PACKAGES = ("torch", "transformers", "peft", "safetensors", "numpy", "flwr", "ray")


def description(threads: int) -> Row:
    """CPU, cores, threads and memory; neither a host's name nor a path."""
    found: Row = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def versions() -> Row:
    """Of Python and the packages that matter; None of one that is not installed."""
    found: Row = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return {**found, "polyrank": revision()}


def revision() -> str | None:
    """The checkout's commit, with a + where files have changed since; None outside of git."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "bench/*.py")
    return commit and commit + ("+" if changed else "")


def matmul_peak(
    dtype: torch.dtype,
    device: str = "cpu",
    size: int = 2048,
    seconds: float = 1.0,
    product: Callable[[Tensor, Tensor], Tensor] = torch.matmul,
) -> float:
    """FLOP/s of the fastest n×n product: 2n³ over the shortest of some.

    Args:
        dtype: of the matrices.
        device: where.
        size: the largest n; a dtype that is slow here is measured at a smaller one.
        seconds: to spend on it, roughly.
        product: of two matrices.
    """  # fmt: skip
    best, n = 0.0, min(256, size)
    until = time.perf_counter() + seconds
    while True:
        a = torch.randn(n, n, device=device).to(dtype)
        took = timed(lambda a=a: product(a, a), device)  # type: ignore[misc]
        best = max(best, 2 * n**3 / took)
        if time.perf_counter() > until:
            return best
        if n < size and took < seconds / 10:
            n *= 2


def peaks(size: int, seconds: float) -> dict[str, float]:
    """By dtype the peak of torch's own product, and of oneDNN's in float32 where ours is that."""
    found = {name: matmul_peak(t, size=size, seconds=seconds) for name, t in DTYPES.items()}
    if products.able():
        found[ONEDNN] = matmul_peak(
            torch.float32, size=size, seconds=seconds, product=products.linear
        )
    return found


def copy_bandwidth(mib: int = 256, seconds: float = 0.5) -> float:
    """Bytes/s at which a tensor that no cache holds is copied (the fastest of some)."""
    source = torch.randn(mib * 2**18)
    target = torch.empty_like(source)
    until, best = time.perf_counter() + seconds, 0.0
    while time.perf_counter() < until or not best:
        best = max(best, source.nbytes / timed(lambda: target.copy_(source)))
    return best


def timed(work: Callable[[], Tensor], device: str = "cpu") -> float:
    """Seconds that something takes, to its end on a GPU too."""
    if device != "cpu":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    about = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in about.items()}
    flags = named.get("flags", "").split()
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in flags]
    return " ".join([named.get("model name", platform.machine()), *units])


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
