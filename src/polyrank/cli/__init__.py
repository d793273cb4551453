"""argv → recipe → run: the only room that prints."""

from polyrank.cli.adapters import aggregate, diff, export, inspect
from polyrank.cli.commands import main
from polyrank.cli.experiments import reproduce
from polyrank.cli.federation import federation

__all__ = ["aggregate", "diff", "export", "federation", "inspect", "main", "reproduce"]
