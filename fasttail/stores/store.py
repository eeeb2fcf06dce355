"""Reading files below a URL, with patience: a store that is slow, busy or away for a while is asked
again, and what can't get better by waiting is said at once."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fasttail.config import STORES
from fasttail.console import remarks
from fasttail.errors import UserError
from fasttail.stores.url import checked, file_system

T = TypeVar("T")

# Asking again changes nothing about these.
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
# Packages of stores raise kinds of their own beside OSError.
PACKAGES = {"aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "httpx", "huggingface_hub"}
# What tells one content of an object from another, by what the stores call it.
TAGS = ("ETag", "etag", "blob_id", "generation", "md5Hash", "LastModified", "mtime", "created")
FIRST_WAIT_S = 0.1


@dataclass(frozen=True)
class About:
    """A file in a store: its bytes, and what changes when it is written again."""

    size: int
    tag: str


class Store:
    """The files below a URL. All of its methods raise `FileNotFoundError` for what is not there,
    and `UserError` if the store refuses, or does not answer for `STORES.patience_s`."""

    def __init__(self, url: str) -> None:
        self.url = checked(url)
        self._fs, self._root = file_system(self.url)

    def about(self, name: str) -> About:
        """A file's size and tag, as they are now."""
        info = self._patiently(name, lambda: self._fs.info(self._path(name), **self._limit()))
        known = repr([str(info[key]) for key in TAGS if info.get(key) is not None])
        return About(int(info["size"]), hashlib.sha256(known.encode()).hexdigest()[:16])

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder; none if there is no such folder."""
        try:
            found = self._patiently(
                folder, lambda: self._fs.ls(self._path(folder), detail=True, **self._limit())
            )
        except FileNotFoundError:
            return []
        return [entry["name"].rpartition("/")[2] for entry in found if entry["type"] == "file"]

    def read(self, name: str, start: int, stop: int) -> bytes:
        """The bytes `start` .. `stop` of a file, by several requests at once."""
        starts = list(range(start, stop, STORES.request_bytes))
        stops = [*starts[1:], stop]

        def ranges() -> bytes:
            paths = [self._path(name)] * len(starts)
            pieces = self._fs.cat_ranges(paths, starts, stops, on_error="raise", **self._limit())
            content = b"".join(pieces)
            if len(content) != stop - start:
                raise EOFError(f"{len(content)} bytes came of {stop - start}")
            return content

        return self._patiently(name, ranges)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _limit(self) -> dict[str, Any]:
        """fsspec gives up a call after so long, where it runs beside the caller."""
        return {"timeout": STORES.timeout_s} if self._fs.async_impl else {}

    def _patiently(self, name: str, call: Callable[[], T]) -> T:
        where, wait_s, said = f"{self.url}/{name}", FIRST_WAIT_S, False
        deadline_s = time.monotonic() + STORES.patience_s
        while True:
            try:
                return call()
            except FileNotFoundError:
                raise
            except Exception as error:  # sorted out at once
                if not _of_the_store(error):
                    raise
                reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
                # A missing key is told by a botocore's class alone.
                if isinstance(error, FINAL) or "Credentials" in reason:
                    raise UserError(
                        f"{where}: refused ({reason}): give credentials by the store's own means"
                    ) from None
                if time.monotonic() + wait_s > deadline_s:
                    raise UserError(
                        f"{where}: no answer for {STORES.patience_s:g} s ({reason}): run the same "
                        "command again when the store is there; what has come stays"
                    ) from None
                if not said and wait_s > 1:
                    remarks().print(f"{where}: {reason}; trying again", markup=False)
                    said = True
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, STORES.longest_wait_s)


def _of_the_store(error: Exception) -> bool:
    known = isinstance(error, (OSError, EOFError))
    return known or type(error).__module__.partition(".")[0] in PACKAGES
