"""Opening a model without a word of the libraries that do it."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR, getLogger

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, no report of a new head (it is new on purpose), and no word of kernels
    that bitsandbytes could have."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    kernels = getLogger("bitsandbytes.backends.cpu.ops")
    heard = kernels.level
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    kernels.setLevel(ERROR)
    try:
        yield
    finally:
        kernels.setLevel(heard)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
