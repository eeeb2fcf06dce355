"""A folder of the cache that stands for one in a store. It is empty at first: a file comes when it
is asked for, by one of the processes of this machine, and stays."""

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from fasttail import atomic
from fasttail.config import STORES
from fasttail.errors import UserError
from fasttail.stores import cache
from fasttail.stores.store import Store
from fasttail.stores.url import checked, is_url

# Given a file that has come: what is wrong with it, or None.
Check = Callable[[Path], str | None]


def mirrored(url: str, contents: str, most_bytes: int) -> Path:
    """The folder of the cache that stands for `url`, with the file `contents`, which says what is
    below: where it is another, so is the folder.

    Raises `FileNotFoundError` if there is no such file, `UserError` if it has more than
    `most_bytes`, and as `Store` does.
    """
    store = Store(url)
    size = store.about(contents).size
    if size > most_bytes:
        raise UserError(f"{store.url}/{contents}: more than {most_bytes >> 20} MiB")
    content = store.read(contents, 0, size)
    digest = hashlib.sha256(store.url.encode() + b"\n" + content).hexdigest()
    root = cache.root()
    folder = root / digest[:16] / store.url.rpartition("/")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with cache.locked(root / ".lock"):
            for name, written in ((contents, content), (cache.ORIGIN, store.url.encode())):
                if not (folder / name).exists():
                    with atomic.whole_file(folder / name) as file:
                        file.write(written)
    except OSError as error:
        raise atomic.explain(error, root, "run the same command again") from error
    return folder


def mirrored_by(folder: Path) -> "Mirror | None":
    """What brings a folder's files, if it stands for one in a store."""
    return Mirror(folder) if (folder / cache.ORIGIN).is_file() else None


def place(folder: Path | str) -> str:
    """Where a folder's content is for good: the URL that it stands for, or its own path."""
    if is_url(folder):
        return checked(str(folder))
    origin = Path(folder, cache.ORIGIN)
    return origin.read_text() if origin.is_file() else str(Path(folder).resolve())


class Mirror:
    """Brings files of a store to the folder that stands for theirs. While there is a `Mirror` of a
    folder in any process, its files stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        origin = folder / cache.ORIGIN
        self._in_use = origin.open("rb")
        fcntl.flock(self._in_use, fcntl.LOCK_SH)
        os.utime(origin)
        self.url = origin.read_text()
        self._store: Store | None = None
        self._listed: set[str] = set()

    def __del__(self) -> None:
        self._in_use.close()

    def bring(self, name: str, check: Check) -> None:
        """Sees to it that a file is there, whole: fetched, if it is not there yet, and held against
        `check`.

        Raises `UserError` if it is not in the store, has no room here, or is not what was written.
        """
        target = self.folder / name
        if target.exists():
            return
        if ".." in PurePosixPath(name).parts or not target.is_relative_to(self.folder):
            raise UserError(
                f"{self.url}: {name} lies outside of it: convert it, and copy that folder"
            )
        try:
            target.parent.mkdir(exist_ok=True)
            with cache.locked(target.with_name(f".{target.name}.lock")):
                if not target.exists():  # another process was faster
                    self._fetch(name, target, check)
        except FileNotFoundError:
            raise UserError(f"{self.url}/{name}: not there: the data set is not whole") from None
        except OSError as error:
            raise atomic.explain(error, target, "run the same command again") from error

    def bring_folder(self, name: str) -> None:
        """All files of a folder below, if there is one."""
        if name not in self._listed:
            for file in self._opened().names(name):
                self.bring(f"{name}/{file}", lambda _: None)
            self._listed.add(name)

    def _fetch(self, name: str, target: Path, check: Check) -> None:
        wrong = None
        for _ in range(2):  # what came may be of two contents, if it was written again meanwhile
            partial = self._download(name, target)
            wrong = check(partial)
            if wrong is None:
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())
                atomic.rename(partial, target)
                return
            partial.unlink()
        raise UserError(
            f"{self.url}/{name}: {wrong}: damaged in the store, or written again since it was "
            "opened: put it there once more, and run the same command again"
        )

    def _download(self, name: str, target: Path) -> Path:
        """The file as it is in the store now, under the name of one that is not whole yet. Goes on
        where an earlier try of any process has ended."""
        store = self._opened()
        about = store.about(name)
        partial = cache.partial(target, about.size, about.tag)
        for other in target.parent.glob(f".{target.name}.*{cache.PART}"):
            if other != partial:
                other.unlink()
        if not partial.exists():
            cache.reserve(partial, about.size)
        step = STORES.request_bytes * STORES.requests
        with partial.open("ab") as file:
            while (at := file.tell()) < about.size:
                file.write(store.read(name, at, min(at + step, about.size)))
        # Written again meanwhile: from the beginning, under the new content's name.
        return partial if store.about(name) == about else self._download(name, target)

    def _opened(self) -> Store:
        if self._store is None:
            self._store = Store(self.url)
        return self._store
