"""One experiment in one typed file: what a recipe may say, and reading it with good errors."""

from polyrank.recipe.schema import Recipe

__all__ = ["Recipe"]
