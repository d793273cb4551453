"""Federated LoRA fine-tuning where every client has its own rank.

import polyrank
result = polyrank.run(polyrank.load_recipe("demo"))
"""

from typing import TYPE_CHECKING, Any

from polyrank.version import __version__

if TYPE_CHECKING:
    from polyrank.api import Result, compare, load_recipe, resume, run
    from polyrank.recipe import Recipe

__all__ = ["Recipe", "Result", "__version__", "compare", "load_recipe", "resume", "run"]


def __getattr__(name: str) -> Any:
    """Import the rest when it is first used: torch and transformers take seconds."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'polyrank' has no attribute {name!r}")
    room = "polyrank.recipe" if name == "Recipe" else "polyrank.api"
    return getattr(importlib.import_module(room), name)
