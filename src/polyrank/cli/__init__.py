"""argv → recipe → run: the only room that prints."""

from polyrank.cli.commands import main

__all__ = ["main"]
