"""The ServerApp."""

from polyrank.flower.server_app import app

__all__ = ["app"]
