"""Writing files so that a crash at any moment leaves the old content or the new, never a part."""

import os
import tempfile
from pathlib import Path

from polyrank.errors import StorageError


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
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp's own mode hides the file from colleagues
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from None


def sync(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(path: Path, error: OSError) -> StorageError:
    """One line for a failed write: the place, the system's reason, the remedy."""
    reason = (error.strerror or str(error)).lower()
    return StorageError(f"cannot write {path}: {reason}; what was there before is unharmed")
