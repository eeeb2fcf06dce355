"""`.convert/` in the folder of the shards: what is to be made, what is being made, what is known.

lock                  held by whoever lists the source or writes the table
manifest.json         what goes into which part (`manifest.py`)
train-00000.piece     the images of that part, before they are read
train-00000.claim     locked by the process that makes that part
train-00000.X.made/   one attempt at it: the part itself, and of its chunks
    spool-4096          images of the chunk that begins at image 4096, whose place in the part is
                        not known yet
    seek-4096           the seek indices of that chunk's images
train-00000.npz       the part's own rows, once it is finished (`rows.py`)
train-00000.seek      the seek indices of its images
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fasttail import atomic
from fasttail.errors import UserError
from fasttail.shards.format import META_FILE, WORK_DIR

MANIFEST_FILE = "manifest.json"


class WorkDir:
    """Paths in `.convert/`, and who may write there. Parts go by their names without a suffix."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out / WORK_DIR

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder and keeps other conversions out.

        Raises `UserError` if one is running or the folder can't be made.
        """
        busy = UserError(
            f"another fasttail convert is writing to {self.out}: wait for it, or choose another "
            "--out"
        )
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(atomic.held(self.path / "lock", busy))
            except OSError as error:
                raise atomic.explain(error, self.out) from None
            yield

    @property
    def is_finished(self) -> bool:
        """Whether there are shards: then nothing is left to be made."""
        return (self.out / META_FILE).exists()

    @property
    def manifest(self) -> Path:
        return self.path / MANIFEST_FILE

    def temporary(self, file: str) -> Path:
        return self.path / file

    def piece(self, part: str) -> Path:
        return self.path / f"{part}.piece"

    def rows(self, part: str) -> Path:
        return self.path / f"{part}.npz"

    def seek(self, part: str) -> Path:
        return self.path / f"{part}.seek"

    @contextmanager
    def attempt(self, part: str) -> Iterator[Path]:
        """A folder of one's own to make a part in, once nobody else is at it: whoever is, is waited
        for, and its lock ends with its process. What a killed one left is removed.

        Some network file systems have no locks. There two may make a part at once: they write the
        same bytes, each in its own folder, and the last one to finish gives them their name.
        """
        with (self.path / f"{part}.claim").open("ab") as claim:
            try:
                fcntl.flock(claim, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in atomic.NO_LOCKS:
                    raise
            else:
                for left in self.path.glob(f"{part}.*.made"):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(".made", f"{part}.", self.path))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self, made: Path) -> None:
        """A file that is on disk gets its final name among the shards."""
        atomic.rename(made, self.out / made.name)

    def remove(self) -> None:
        shutil.rmtree(self.path)

    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize
