"""The folder that files of stores are kept in: FASTTAIL_CACHE, at most FASTTAIL_CACHE_SIZE of it.

    <16 hex digits>/<name>/.origin    the URL; locked (shared) by every process that uses the folder
    <16 hex digits>/<name>/...        whole files under their names
    .../.<name>.<bytes>.<tag>.part    one that is on its way, of that size in the end

Room is made by removing whole files of folders that no process uses, those first that were used
longest ago.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fasttail.config import Bytes
from fasttail.errors import UserError

ORIGIN = ".origin"
PART = ".part"
SIZE = "FASTTAIL_CACHE_SIZE"


def root() -> Path:
    """The cache's folder."""
    given = os.environ.get("FASTTAIL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(given or f"{base}/fasttail/stores").expanduser().absolute()


def limit() -> int | None:
    """Bytes that the cache may take; None: as many as the disk has."""
    given = os.environ.get(SIZE)
    if not given:
        return None
    try:
        return TypeAdapter(Bytes).validate_python(given)
    except ValidationError as error:
        raise UserError(f"{SIZE} can't be read: {error.errors()[0]['msg']}") from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for a lock file, and holds it for the block. It ends with the process, however that
    ends."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def partial(target: Path, size: int, tag: str) -> Path:
    """What a file is called until it is whole. Another content has another name: nothing goes on
    with the half of what is no longer there."""
    return target.with_name(f".{target.name}.{size}.{tag}{PART}")


def reserve(path: Path, size: int) -> None:
    """Begins the file `path`, one of `partial`'s, once there is room for `size` bytes.

    Raises `UserError` if there can't be: what else is there is in use.
    """
    folder = root()
    with locked(folder / ".lock"):
        free = _free(folder)
        for victim in _unused(folder) if free < size else ():
            free += victim.stat().st_size
            victim.unlink()
            if free >= size:
                break
        if free < size:
            most = limit()
            allowed = (
                "" if most is None else f", of which it may take {most / 1e9:,.1f} GB ({SIZE})"
            )
            raise UserError(
                f"{folder}: no room for {path.parent.name}: {size / 1e9:,.1f} GB more are needed, "
                f"and {max(0, free) / 1e9:,.1f} GB are free{allowed}; what is there is in use: "
                "set FASTTAIL_CACHE to a larger disk"
            )
        path.touch()


def _free(folder: Path) -> int:
    """Bytes that a new file may have: files on their way count with their size in the end."""
    used = outstanding = 0
    for file in folder.rglob("*"):
        if file.is_file():
            has = file.stat().st_size
            promised = int(file.name.split(".")[-3]) if file.name.endswith(PART) else has
            used += promised
            outstanding += promised - has
    free, most = shutil.disk_usage(folder).free - outstanding, limit()
    return free if most is None else min(free, most - used)


def _unused(folder: Path) -> Iterator[Path]:
    """Files of folders that no process uses, which stay locked until the next is asked for."""
    for origin in sorted(folder.glob(f"*/*/{ORIGIN}"), key=lambda path: path.stat().st_mtime):
        with origin.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            files = (path for path in origin.parent.rglob("*") if path.is_file())
            yield from (path for path in files if path != origin and path.stat().st_size)
