"""Writing a file whole or not at all: a temporary file beside it, fsync, replace."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from polyrank.errors import StorageError


def write_whole(path: Path, text: str) -> None:
    """Replace `path` by `text`, so that a crash leaves the old file or the new one.

    Raises:
        StorageError: the folder is missing, full or not writable.
    """
    try:
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o644)  # a temporary file is private, a report is not
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        why = error.strerror or str(error)
        raise StorageError(f"{path} cannot be written ({why}); choose another folder") from error
