"""The program that converts, as its worker processes see it.

A data set's class may be defined in that program itself, and is then pickled as one of `__main__`,
which in a worker is another module. The worker runs the program's file when it is first asked
for such a class, under another name: what stands under `if __name__ == "__main__"` does not run.
"""

import os
import runpy
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from fasttail.errors import UserError


class Program(NamedTuple):
    """Where a program's code is: a module's name, or a file's path. Both None: in no file, as in a
    notebook."""

    module: str | None = None
    path: str | None = None


def this_one() -> Program:
    """The program that this process runs."""
    main = sys.modules["__main__"]
    spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return Program(module=spec.name)
    return Program(path=os.path.abspath(path)) if path else Program()  # noqa: PTH100


def lend(program: Program) -> None:
    """Makes what the program defines be found in this process's `__main__`."""
    found: Mapping[str, Any] | None = None

    def look(name: str) -> Any:
        nonlocal found
        if found is None:
            found = _run(program)
        if name not in found:
            raise UserError(
                f"{name} is defined where worker processes can't find it: define it at the top "
                "level of a file, not in a notebook or below if __name__"
            )
        return found[name]

    sys.modules["__main__"].__getattr__ = look  # type: ignore[method-assign]


def _run(program: Program) -> Mapping[str, Any]:
    if program.module is not None:
        return runpy.run_module(program.module, run_name="__mp_main__", alter_sys=True)
    return runpy.run_path(program.path, run_name="__mp_main__") if program.path else {}
