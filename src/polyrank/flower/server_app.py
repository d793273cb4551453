"""The ServerApp: a recipe's run, with the federation's nodes as its clients."""

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
        LOG.error("polyrank: %s", error)  # one line, before Flower's traceback
        raise


app = ServerApp()
app.main()(main)
