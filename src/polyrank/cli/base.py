"""What every command shares: the app, its words for recipes, and how a mistake is told."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, Optional

import typer
from rich.console import Console

from polyrank.errors import RecipeError

if TYPE_CHECKING:
    from polyrank.recipe.load import Loaded

app = typer.Typer(
    help="Federated LoRA fine-tuning where every client has its own rank.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(highlight=False, markup=False)

Source = Annotated[str, typer.Argument(help="A recipe's YAML file, or a bundled one: demo.")]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time
    typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to change: local.lr=3e-3."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run of that name.")]


def read(source: str, overrides: list[str] | None) -> "Loaded":
    """The recipe that the command line names."""
    from polyrank.recipe import load

    return load.load(Path(source), overrides or [])


@contextmanager
def located(loaded: "Loaded | None", place: Path | None = None) -> Iterator[None]:
    """Join a recipe's mistake, wherever it was found, with the line that says it."""
    from polyrank.recipe import load

    try:
        yield
    except RecipeError as error:
        fail(load.located(error, loaded) if loaded else str(error))
    except KeyboardInterrupt:
        hint = f"; every finished round is safe: polyrank resume {place}"
        fail(f"stopped{hint if place and place.exists() else ''}", code=130)


def say(line: str) -> None:
    """One line, however long."""
    out.print(line, soft_wrap=True)


def warned(
    message: Warning | str, category: object, filename: str, lineno: int, *_: object, **__: object
) -> None:
    """A warning as one line on stderr, without the place in the source."""
    print(f"polyrank: {message}", file=sys.stderr)


def fail(line: str, code: int = 2) -> NoReturn:
    """End with one line on stderr."""
    print(f"polyrank: {line}", file=sys.stderr)
    raise SystemExit(code)
