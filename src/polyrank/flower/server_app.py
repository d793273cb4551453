"""The ServerApp: a recipe's run, with the federation's nodes as its clients."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from polyrank.flower.serve import serve
from polyrank.flower.settings import settings


def main(grid: Grid, context: Context) -> None:
    """Do what is left of the run that the run config names."""
    serve(grid, settings(context.run_config))


app = ServerApp()
app.main()(main)
