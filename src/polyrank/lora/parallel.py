"""Layers side by side: one after another they leave most of a processor idle.

A decomposition of a small matrix runs on one core whatever it is given, so layers are done by as
many threads as there are cores, one core each.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


def each(names: Sequence[str], work: Callable[[str], Result]) -> dict[str, Result]:
    """`work` for every layer, in their order, with the results of one after another.

    Args:
        names: of layers.
        work: pure, on one layer.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(names))
    if workers < 2:
        return {name: work(name) for name in names}
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return dict(zip(names, pool.map(work, names), strict=True))
    finally:
        torch.set_num_threads(threads)
