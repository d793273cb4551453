"""The ClientApp."""

from polyrank.flower.client_app import app

__all__ = ["app"]
