"""Files that are whole or not there: a temporary name, fsync, rename, fsync of the folder. And who
may write into a folder, and what a write that failed means to a person."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fasttail.errors import UserError

_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # how a file system says so


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


@contextmanager
def held(path: Path, busy: UserError) -> Iterator[None]:
    """Locks a file for the block, and makes it if need be; raises `busy` if another process holds
    it. The lock ends with the process, however that ends."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError as error:
            # Some network file systems have no locks: whoever uses one looks out for himself.
            if error.errno not in NO_LOCKS:
                raise
        yield


AGAIN = "run the same command again: it keeps the finished shards"


def explain(error: OSError, folder: Path, then: str = AGAIN) -> UserError:
    """What a failed write means to a person; `then` says how to go on once there is room."""
    if error.errno in _SPACE:
        return UserError(
            f"{folder}: {os.strerror(error.errno or 0)}: nothing unfinished has a final name; make "
            f"room, then {then}"
        )
    return UserError(f"{folder}: cannot write: {error.strerror or error}")


@contextmanager
def explained(folder: Path, then: Callable[[], str]) -> Iterator[None]:
    """Puts it into words if the disk is full in the block, or may not be written to."""
    try:
        yield
    except OSError as error:
        if error.errno in (*_SPACE, *_DENIED):
            raise explain(error, folder, then()) from error
        raise
