"""A run folder: what lies where, and whose it is.

runs/<name>/recipe.yaml  records.jsonl  checkpoint.safetensors  clients/  adapter/  report.html
"""

from dataclasses import dataclass
from pathlib import Path

from polyrank import files
from polyrank.errors import StorageError
from polyrank.recipe import Recipe
from polyrank.recipe.load import dump
from polyrank.report import records

RECIPE = "recipe.yaml"
MANIFEST = "compare.json"  # in the folder of a comparison


@dataclass(frozen=True, slots=True)
class Folder:
    """The places in one run folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / RECIPE

    @property
    def records(self) -> Path:
        return self.path / "records.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.safetensors"

    @property
    def clients(self) -> Path:
        return self.path / "clients"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def complete(self) -> bool:
        """Whether the run came to its end: nothing that it writes is missing."""
        ended = self.records.exists() and records.load(self.records).complete
        return ended and self.adapter.exists() and self.report.exists()


def create(path: Path, recipe: Recipe, overwrite: bool = False) -> Folder:
    """A new run folder that holds its recipe.

    Raises:
        StorageError: the folder exists (and is not to be replaced), or cannot be written.
    """
    claim(path, overwrite)
    files.write_folder(path, {RECIPE: dump(recipe).encode()})
    return Folder(path)


def opened(path: Path) -> Folder:
    """The run folder at `path`.

    Raises:
        StorageError: nothing is there, or no run.
    """
    folder = Folder(path)
    if not folder.recipe.exists():
        what = "is no run folder" if path.exists() else "does not exist"
        raise StorageError(f"{path} {what}; `polyrank run` makes one")
    return folder


def claim(path: Path, overwrite: bool) -> None:
    """Make sure that a run may be written to `path`; only what this program made is replaced.

    Raises:
        StorageError: something is there and must not be replaced.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise StorageError(f"{path} is a file, not a run folder; choose another name=…")
    ours = any((path / name).exists() for name in (RECIPE, MANIFEST))
    if not ours and any(path.iterdir()):
        raise StorageError(f"{path} exists and is no run folder; choose another name=…")
    if ours and not overwrite:
        raise StorageError(
            f"{path} exists already: `polyrank resume {path}` goes on with it, --overwrite starts "
            "anew, name=… makes another"
        )
