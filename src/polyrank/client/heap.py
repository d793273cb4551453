"""Freed memory is kept for the next step: to have it made afresh takes a tenth of a step.

The C library gives what is free at the heap's end back to the system as soon as there is some, and
every step asks for the same again, page by page. glibc alone has these settings.
"""

import ctypes
import os

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
KEPT = 2**30  # bytes, at most, that are free at the heap's end
LARGEST = 2**25  # bytes of a block that comes from the heap: glibc's own limit


def keep() -> bool:
    """Let this process keep what it frees, unless its environment says otherwise.

    Returns:
        Whether it does.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    return bool(mallopt(MMAP, LARGEST) and mallopt(TRIM, KEPT))
