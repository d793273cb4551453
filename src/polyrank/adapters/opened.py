"""What a user may name as an adapter: a PEFT folder, or the folder of a finished run."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from polyrank.errors import StorageError
from polyrank.experiment.folder import Folder
from polyrank.lora.configured import CONFIG
from polyrank.lora.factor import Adapter, Factor, Factors
from polyrank.lora.incoming import Incoming, read


def opened(path: Path) -> Incoming:
    """The adapter at `path`.

    Raises:
        StorageError: there is none, or none that can be read.
    """
    run = Folder(path)
    if (path / CONFIG).exists() or not run.recipe.exists():
        return read(path)
    if not (run.adapter / CONFIG).exists():
        raise StorageError(f"{path} has no adapter yet; `polyrank resume {path}` finishes the run")
    return read(run.adapter)


def run_of(path: Path) -> Folder | None:
    """The finished run that a folder, or the run's own adapter in it, is of."""
    for folder in (Folder(path), Folder(path.resolve().parent)):
        if folder.recipe.exists() and folder.records.exists() and folder.adapter.exists():
            own = path.resolve() in (folder.path.resolve(), folder.adapter.resolve())
            return folder if own else None
    return None


def wide(factors: Factors) -> dict[str, Factor]:
    """The factors in float64, in which everything here is computed."""
    return {n: Factor(f.a.double(), f.b.double(), f.scale) for n, f in factors.items()}


def narrow(factors: Factors, dense: Iterable[tuple[str, Tensor]] = ()) -> Adapter:
    """An adapter in float32, as it is written."""
    small = {n: Factor(f.a.float(), f.b.float(), f.scale) for n, f in factors.items()}
    return Adapter(small, {n: t.to(torch.float32) for n, t in dense})
