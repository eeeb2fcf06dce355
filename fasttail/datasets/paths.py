"""Paths that come out of files: lists, tables, JSON. They stay inside the root, or are refused."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from fasttail.datasets.namelist import Names
from fasttail.errors import UserError

Layout = Callable[[str], str]  # a path as it is listed -> where it lies under the root
_PROBES = 32


def refuse_outside(root: Path, paths: Iterable[str], listed_in: Path) -> None:
    """Raises `UserError` for the first path that is absolute, climbs by `..`, or whose folder is a
    symbolic link out of the root. (An image that is itself such a link is refused when it is read.)
    """
    real_root = root.resolve()
    seen: set[str] = set()
    for number, path in enumerate(paths, 1):
        where = f"{listed_in}: image {number}, {path!r}"
        if not path or path.startswith("/") or "\0" in path or "\\" in path:
            raise UserError(f"{where}: not a path relative to {root}")
        folder = os.path.dirname(path)  # noqa: PTH120 - a million of them
        if folder in seen:
            continue
        seen.add(folder)
        if ".." in folder.split("/") or not (root / folder).resolve().is_relative_to(real_root):
            raise UserError(f"{where}: leaves {root}; only images below it are read")
    # A last component of ".." names a folder, which is no regular file, and is refused as such.


def relative(root: Path, paths: Names) -> Names:
    """The paths, those that are absolute and lie below `root` made relative to it."""
    above = f"{root.absolute()}/"
    return Names.of(path.removeprefix(above) for path in paths)


def locate(root: Path, listed: Sequence[str], layouts: Sequence[Layout], listed_in: Path) -> Names:
    """The paths under `root`, by the layout by which most of a few probed images are there.

    Raises `UserError` if none is there by any layout.
    """
    probes = [listed[int(i)] for i in np.linspace(0, len(listed) - 1, _PROBES)] if listed else []
    hits = [sum((root / layout(path)).is_file() for path in probes) for layout in layouts]
    best = int(np.argmax(hits))
    if not hits[best]:
        tried = "".join(f", {root / layout(probes[0])}" for layout in layouts)[2:]
        raise UserError(f"none of the images of {listed_in} is there: looked for {tried}")
    return Names.of(layouts[best](path) for path in listed)


def as_listed(path: str) -> str:
    return path


def in_encoding(encoding: str | None) -> tuple[Layout, ...]:
    """Names on the disk may be in UTF-8, or in the bytes that the file with the paths has."""
    if encoding is None:
        return (as_listed,)
    return as_listed, lambda path: os.fsdecode(path.encode(encoding, "surrogateescape"))


def without_first(path: str) -> str:
    """`train/airfield/1.jpg` -> `airfield/1.jpg`"""
    return path.split("/", 1)[-1]


def without_class(path: str) -> str:
    """`val/n01440764/1.JPEG` -> `val/1.JPEG`: ImageNet's val as it is unpacked."""
    parts = path.split("/")
    return "/".join((*parts[:-2], parts[-1])) if len(parts) > 2 else path


def under(folder: str, inner: Layout = as_listed) -> Layout:
    """`1.jpg` -> `folder/1.jpg`"""
    return lambda path: f"{folder}/{inner(path)}"
