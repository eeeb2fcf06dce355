"""Shards: a data set in a few big files, and a table that says where each image is.

Importing this package brings in neither torch nor numba nor pydantic: the conversion's worker
processes start at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fasttail.shards.reader import Shards, Split

__all__ = ["Shards", "Split", "open"]


def open(folder: Path | str) -> "Shards":
    """The shards in a folder. Raises `UserError` if there are none, or of another version."""
    from fasttail.shards import reader

    return reader.open(folder)


def __getattr__(name: str) -> Any:
    if name in ("Shards", "Split"):
        from fasttail.shards import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
