"""Data sets by name: `index(name, source, cfg)` finds one's images and labels.

A data set is one module with `index(source, cfg) -> Index`; adding one is a file and a line here.
Modules are imported when they are asked for, since each brings its own packages; this one imports
next to nothing, since worker processes pass through it.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fasttail.errors import UserError, unknown

if TYPE_CHECKING:
    from fasttail.config import ConvertConfig
    from fasttail.datasets.base import Index

# Name -> module. A module that serves several takes the name as a keyword.
_MODULES = {
    "digits": "digits",
    "folder": "folder",
    "cifar10-lt": "cifar",
    "cifar100-lt": "cifar",
    "imagenet-lt": "lists",
    "places-lt": "lists",
    "inat2018": "inat",
    "list": "lists",
    "csv": "tables",
    "parquet": "tables",
    "webdataset": "webdataset",
}
_NEEDS_NAME = ("cifar", "lists", "tables")


def names() -> tuple[str, ...]:
    """The data sets there are."""
    return tuple(_MODULES)


def check_name(name: str) -> None:
    """Raises `UserError` that names the choices if there is no such data set."""
    if name not in _MODULES:
        raise unknown("data set", name, _MODULES)


def index(name: str, source: Path | None, cfg: "ConvertConfig") -> "Index":
    """The images and labels of a data set that lies in the folder (or file) `source`, with val and
    test held out of train as `cfg` says.

    Raises `UserError` for an unknown name and for whatever is wrong with the source.
    """
    check_name(name)
    module = import_module(f"fasttail.datasets.{_MODULES[name]}")
    from fasttail.datasets.splits import divide

    try:
        named = {"name": name} if _MODULES[name] in _NEEDS_NAME else {}
        return divide(module.index(source, cfg, **named), cfg)
    except OSError as error:
        raise UserError(f"{error.filename or source}: {error.strerror or error}") from None
