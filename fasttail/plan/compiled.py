"""numba, with compiled code kept where it can't go stale.

numba's own `cache=True` looks at the file that holds a function, not at the functions it calls. A
cache folder named by a digest of all sources mends that, and still is not enough (numba 0.68; the
first two were seen, the others stand in its code):

- Its index numbers the compiled signatures. Two processes that compile two signatures of a function
  at once, which ranks and test workers do, give both the same number, and from then on every
  process runs the wrong machine code: int64 [1, 2] summed to 1.5e-323 instead of 3.
- A file cut short by a full disk or a crash raises EOFError until somebody removes it.
- The folder is a setting of the whole process: a user's own cached functions would move into it.
- Where nothing can be written the decorator raises, and a folder that others can write to is read.

Here one file holds one compiled kernel, and its name says everything it depends on: the content of
all source files beside the kernel's and beside this one, the versions of numba, llvmlite, numpy and
Python, the CPU with its features, and the signature. A name that exists is right; whatever changes,
the name does.

The files lie in the user's cache folder: $NUMBA_CACHE_DIR, $XDG_CACHE_HOME or ~/.cache. Where that
can't be written, or others could write to it, nothing is kept and every process compiles again.
"""

import hashlib
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

_DIGEST_BYTES = 32


def inline(function: Callable[..., Any]) -> Any:
    """Compiles a small function that kernels call; LLVM puts it in its place there."""
    return numba.njit(function, nogil=True, error_model="numpy", forceinline=True)


def stage(function: Callable[..., Any]) -> Any:
    """Compiles a loop that kernels call, by itself: on its own LLVM does several turns at once."""
    return numba.njit(function, nogil=True, error_model="numpy")


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function that Python calls, at its first call: without the GIL, cached on disk."""
    dispatcher: Any = numba.njit(function, nogil=True, error_model="numpy")
    dispatcher._cache = KernelCache(function)
    return dispatcher


@cache
def cache_dir(source_dir: Path) -> Path | None:
    """The folder of compiled kernels of the sources in a folder, made if need be; None where there
    can't be one."""
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    digest = source_digest(source_dir)
    if digest is None:
        return None
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / "fasttail" / digest
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None
    # What is loaded from here runs: it must be nobody else's to write.
    return folder if state.st_uid == os.geteuid() and not state.st_mode & 0o022 else None


@cache
def source_digest(source_dir: Path) -> str | None:
    """What compiled code depends on, but for signature and CPU, as 32 hex digits; None if the
    sources can't be read (an install of bytecode only, or inside an archive)."""
    digest = hashlib.blake2b(digest_size=16)
    versions = (numba.__version__, llvmlite.__version__, np.__version__, sys.version)
    digest.update(repr(versions).encode())
    for folder in sorted({source_dir, Path(__file__).parent}):
        paths = sorted(folder.glob("*.py"))
        if not paths:
            return None
        for path in paths:
            digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()


class KernelCache(_Cache):
    """Where one numba dispatcher keeps its compiled signatures. Written atomically, read with a
    checksum: a file that is torn or foreign counts as absent."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._source_dir = Path(function.__code__.co_filename).parent
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._enabled = True

    @property
    def cache_path(self) -> Any:
        folder = cache_dir(self._source_dir)
        return str(folder) if folder else None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        path = self._path(sig, target_context.codegen())
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest() != digest:
            return None
        # The folder is this user's alone, and the file is whole.
        return CompileResult._rebuild(target_context, *pickle.loads(payload))  # noqa: S301

    def save_overload(self, sig: Any, data: Any) -> None:
        path = self._path(sig, data.codegen)
        if path is None or data.library.has_dynamic_globals:
            return
        payload = dumps(data._reduce())
        content = hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest() + payload
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(content)
            Path(file.name).replace(path)
        except OSError:  # the disk is full, or the folder went: the code runs all the same
            self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        folder = cache_dir(self._source_dir)
        for path in folder.glob(f"{self._name}-*.kernel") if folder else ():
            path.unlink(missing_ok=True)

    def _path(self, sig: Any, codegen: Any) -> Path | None:
        folder = cache_dir(self._source_dir) if self._enabled else None
        about = repr((sig, codegen.magic_tuple())).encode()
        digest = hashlib.blake2b(about, digest_size=12).hexdigest()
        return folder / f"{self._name}-{digest}.kernel" if folder else None
