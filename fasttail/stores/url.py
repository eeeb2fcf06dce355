"""URLs of object stores: what is one, what it may hold, and the file system that reads it."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fasttail.errors import MissingExtra, UserError

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def is_url(place: object) -> bool:
    """Whether this names a place in a store, and no folder here."""
    return isinstance(place, str) and _URL.match(place) is not None


def folder_or_url(place: str) -> Path | str:
    """What a command was given: a URL as it stands, anything else as a path."""
    return place if is_url(place) else Path(place)


def checked(url: str) -> str:
    """The URL, without a slash at its end.

    Raises `UserError` if it carries a password, a key or a query: it is kept in runs and shown.
    """
    pieces = urlsplit(url)
    if "@" in pieces.netloc or pieces.query or pieces.fragment:
        shown = f"{pieces.scheme}://{pieces.netloc.rpartition('@')[2]}{pieces.path}"
        raise UserError(
            f"{shown}: the URL carries a user, a query or a fragment, which would be kept in runs "
            "and logs: leave them out, and give credentials by the store's own means (its "
            "environment variables, its configuration file, the machine's role)"
        )
    return url.rstrip("/")


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it.

    Raises `UserError` if fsspec or its package for the protocol is missing, or does not know it.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MissingExtra(f"reading {url}", "fsspec", "remote") from None
    try:
        # Others write there: a listing from before is no answer.
        return url_to_fs(url, use_listings_cache=False)
    except ImportError as error:  # it names the package to install
        raise UserError(f"{url}: the store's package is missing: {error}") from None
    except ValueError as error:
        raise UserError(f"{url}: no store that fsspec knows: {error}") from None
