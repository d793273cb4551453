"""The ServerApp: a recipe's run, with the federation's nodes as its clients."""

import logging

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from polyrank.errors import PolyrankError
from polyrank.flower.serve import LOG, serve
from polyrank.flower.settings import settings


def main(grid: Grid, context: Context) -> None:
    """Do what is left of the run that the run config names."""
    try:
        serve(grid, settings(context.run_config))
    except PolyrankError as error:
        LOG.error("polyrank: %s", error)
        LOG.addFilter(_brief)
        raise


def _brief(record: logging.LogRecord) -> bool:
    """Without Flower's traceback of what we have just told in one line."""
    if record.exc_info and isinstance(record.exc_info[1], PolyrankError):
        record.exc_info = None
    return True


app = ServerApp()
app.main()(main)
