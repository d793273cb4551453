"""Federated LoRA fine-tuning where every client has its own rank."""

from polyrank.version import __version__

__all__ = ["__version__"]
