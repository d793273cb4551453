"""argv → recipe → run: the only room that prints."""

from polyrank.cli.commands import main
from polyrank.cli.experiments import reproduce

__all__ = ["main", "reproduce"]
