"""Files that are whole or not there: a temporary name, fsync, rename, fsync of the folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fasttail.errors import UserError

_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fsync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def rename(source: Path, target: Path) -> None:
    """A finished file or folder gets its final name. The content must be on disk already."""
    source.replace(target)
    fsync_folder(target.parent)


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """A name to write a file under, for what opens files itself. The file gets its real name when
    the block ends without an error: after a kill or a power cut that is the old file or the new
    one, never half of one."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which gets its name when the block ends without an error."""
    with whole_path(path) as temporary, temporary.open("wb") as file:
        yield file
        file.flush()


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of room."""
    return error.errno in _SPACE


AGAIN = "run the same command again: it takes up the finished parts"


def explain(error: OSError, folder: Path, then: str = AGAIN) -> UserError:
    """What a failed write means to a person; `then` says how to go on once there is room."""
    if is_full(error):
        return UserError(
            f"{folder}: {os.strerror(error.errno or 0)}: nothing unfinished has a final name; make "
            f"room, then {then}"
        )
    return UserError(f"{folder}: cannot write: {error.strerror or error}")
