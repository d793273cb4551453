"""Writing files so that a crash at any moment leaves the old content or the new, never a part."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from polyrank.errors import PolyrankError, StorageError


def write(path: Path, data: bytes) -> None:
    """Replace the file's content in one step that survives a crash.

    Raises:
        StorageError: the disk is full, or the place cannot be written; the old content stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                _fill(file.fileno(), data)
            os.chmod(temporary, 0o644)  # mkstemp's own mode hides the file from colleagues
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from None


def write_folder(
    path: Path, contents: Mapping[str, bytes], modes: Mapping[str, int] | None = None
) -> None:
    """Make a folder of these files (names may have slashes), whole before it appears.

    A folder that is there already is replaced once the new one is complete.

    Args:
        path: the folder.
        contents: by name.
        modes: of files that are not 0o666, from the beginning; the umask applies.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    with replaced(path) as new:
        for name, data in contents.items():
            _write_in(new / name, data, (modes or {}).get(name, 0o666))


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of the one at `path` when the block is done.

    Raises:
        StorageError: the disk is full, or the place cannot be written; what was there stays.
    """
    target = path.resolve()  # what a link points to, not the link
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)
        try:
            new = Path(aside, "new")
            new.mkdir()
            yield new
            if target.exists():
                target.rename(Path(aside, "old"))
            new.rename(target)
            _sync(target.parent)
        finally:
            shutil.rmtree(aside)
    except PolyrankError:
        raise
    except OSError as error:
        raise unwritable(path, error) from None


def sweep(folder: Path) -> None:
    """Delete what a killed process left half-written in a folder that nobody else writes to."""
    for path in folder.glob(".*-*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def unwritable(path: Path, error: OSError) -> StorageError:
    """One line for a failed write: the place, the system's reason, the remedy."""
    reason = (error.strerror or str(error)).lower()
    return StorageError(f"cannot write {path}: {reason}; what was there before is unharmed")


def _write_in(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        _fill(file.fileno(), data)


def _fill(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    os.fsync(handle)


def _sync(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
