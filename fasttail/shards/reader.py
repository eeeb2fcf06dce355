"""Reading shards: `open(dir)` -> `Shards`, `.split("train")` -> `Split`.

Everything big is memory-mapped, so opening costs nothing and processes on one machine share it.
Shards in an object store are opened as a folder of the cache: each of their files comes when it is
first used (`fasttail.stores`), and then lies there like any other.
A column is checked when it is first used: what it holds decides what is trained on which label.
"""

from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from fasttail import stores
from fasttail.datasets.namelist import Names
from fasttail.errors import UserError, unknown
from fasttail.shards import fetched
from fasttail.shards.cache import Cache, folder_of, open_cache
from fasttail.shards.columns import COLUMNS, SEEK, digest, mapped
from fasttail.shards.format import MAX_META_BYTES, META_FILE, Meta, SplitMeta, read_meta

# Of a larger column the digest is left to `fasttail verify`. Who draws from it checks each draw:
# plan/epoch.py that the sample is of its class, engines/ that its bytes lie in its part.
DIGEST_BYTES = 64 << 20


@dataclass(frozen=True)
class Shards:
    """A converted data set. `meta` is what its dataset.json says."""

    dir: Path
    meta: Meta
    _splits: dict[str, "Split"] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.meta.name

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.meta.class_names

    @property
    def digest(self) -> str:
        """Identifies the data set's content."""
        return self.meta.digest

    @property
    def split_names(self) -> tuple[str, ...]:
        return tuple(self.meta.splits)

    def split(self, name: str) -> "Split":
        """One split, the same object at every call. Raises `UserError` that names those there
        are."""
        if name not in self.meta.splits:
            raise unknown(f"split of {self.dir}", name, self.meta.splits)
        if name not in self._splits:
            self._splits[name] = Split(
                self.dir, name, self.meta.splits[name], self.meta.class_names, self.digest
            )
        return self._splits[name]


def open(folder: Path | str) -> Shards:
    """The shards in a folder, or below the URL of a store. Raises `UserError` if there are none, or
    of another version."""
    if stores.is_url(folder):
        try:
            folder = stores.mirrored(str(folder), META_FILE, MAX_META_BYTES)
        except FileNotFoundError:
            raise UserError(f"{folder} holds no shards (no {META_FILE})") from None
    folder = Path(folder)
    return Shards(folder, read_meta(folder))


class Split:
    """One split: N samples, C classes. Arrays are memory-mapped and read-only.

    Cheap to pickle: another process maps the files again.
    """

    def __init__(
        self, folder: Path, name: str, meta: SplitMeta, class_names: tuple[str, ...], digest: str
    ) -> None:
        self.dir = folder
        self.name = name
        self.meta = meta
        self.class_names = class_names
        self.digest = digest  # the whole data set's
        self._mirror = stores.mirrored_by(folder)
        self.part_paths = tuple(folder / part.file for part in meta.parts)
        self._columns: dict[str, np.ndarray] = {}
        self._parts: dict[int, np.ndarray] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return Split, (self.dir, self.name, self.meta, self.class_names, self.digest)

    def __len__(self) -> int:
        return self.meta.samples

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def indptr_C1(self) -> np.ndarray:
        """int64 [C + 1]: class c's samples are `samples_N[indptr_C1[c]:indptr_C1[c + 1]]`."""
        return self.column("indptr")

    @property
    def samples_N(self) -> np.ndarray:
        """int64 [N]: sample ids grouped by class, ascending within each."""
        return self.column("samples")

    @property
    def labels_N(self) -> np.ndarray:
        """int32 [N], by sample id, as all that follow."""
        return self.column("labels")

    @property
    def heights_N(self) -> np.ndarray:
        """int32 [N], pixels."""
        return self.column("heights")

    @property
    def widths_N(self) -> np.ndarray:
        """int32 [N], pixels."""
        return self.column("widths")

    @property
    def modes_N(self) -> np.ndarray:
        """uint8 [N]: 0 a JPEG file, 1 raw RGB pixels."""
        return self.column("modes")

    @property
    def parts_N(self) -> np.ndarray:
        """int32 [N]: which of `part_paths`."""
        return self.column("parts")

    @property
    def offsets_N(self) -> np.ndarray:
        """int64 [N]: where in its part, bytes."""
        return self.column("offsets")

    @property
    def sizes_N(self) -> np.ndarray:
        """int64 [N], bytes."""
        return self.column("sizes")

    @property
    def crc32_N(self) -> np.ndarray:
        """uint32 [N], of those bytes."""
        return self.column("crc32")

    @property
    def seek(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The seek index of the JPEGs: its words uint64 [W], and where each sample's begin in them,
        int64 [N + 1]. None: there is none."""
        return None if self.meta.seek is None else (self.column("seek"), self.column("seek_starts"))

    @property
    def cache(self) -> Cache | None:
        """The samples that are kept decoded, if there are any; looked for at each call.

        Raises `UserError` if they are of other shards.
        """
        if self._mirror is not None:
            self._mirror.bring_folder(folder_of(self.dir, self.name).name)
        return open_cache(self.dir, self.name, len(self), self.digest)

    @cached_property
    def counts_C(self) -> np.ndarray:
        """int64 [C]: samples of each class."""
        return np.diff(self.indptr_C1)

    def column(self, name: str) -> np.ndarray:
        """One column of the table, memory-mapped. Raises `UserError` if it is not what it was."""
        if name not in self._columns:
            column = self.unchecked(name)
            whole = True
            if column.nbytes <= DIGEST_BYTES:
                whole = digest(column) == self.meta.columns.get(name)
            if name == "indptr":  # in memory at once, and indexed by compiled code without a look
                ends = int(column[0]), int(column[-1])
                whole = whole and ends == (0, len(self)) and bool((np.diff(column) >= 0).all())
            if not whole:
                raise UserError(f"{self._file(name)} is not what was written: {_advice(self.dir)}")
            self._columns[name] = column
        return self._columns[name]

    def unchecked(self, name: str) -> np.ndarray:
        """One column, of the type and length that it should have, whatever its values are."""
        n = {"indptr": self.num_classes + 1, "names": None, "seek": None}
        n |= dict.fromkeys(("name_starts", "seek_starts"), len(self) + 1)
        if self._mirror is not None:
            check = partial(fetched.wrong_column, digest=self.meta.columns.get(name))
            self._mirror.bring(str(self._file(name).relative_to(self.dir)), check)
        try:
            return mapped(self._file(name), {**COLUMNS, **SEEK}[name], n.get(name, len(self)))
        except (OSError, ValueError) as error:
            raise UserError(f"{self._file(name)}: {error}: {_advice(self.dir)}") from None

    def _file(self, name: str) -> Path:
        return self.dir / f"{self.name}.index" / f"{name}.npy"

    def part_size(self, part: int) -> int:
        """A part's bytes, by dataset.json."""
        return self.meta.parts[part].bytes

    def part_bytes(self, part: int) -> np.ndarray:
        """All bytes of a part, uint8, memory-mapped.

        Raises `UserError` if the file is missing or has another size than it had.
        """
        if part not in self._parts:
            path, known = self.fetched_part(part), self.part_size(part)
            try:
                content = np.memmap(path, np.uint8, mode="r")
            except (OSError, ValueError) as error:
                raise UserError(f"{path}: {error}: {_advice(self.dir)}") from None
            if len(content) != known:
                raise UserError(
                    f"{path}: {len(content)} bytes, but it was written with {known}: "
                    + _advice(self.dir)
                )
            self._parts[part] = content.view(np.ndarray)
        return self._parts[part]

    def fetched_part(self, part: int) -> Path:
        """A part's file, fetched where the shards are in a store. Raises `UserError` if it can't
        be."""
        if self._mirror is not None:
            check = partial(fetched.wrong_part, split=self, part=part)
            self._mirror.bring(self.meta.parts[part].file, check)
        return self.part_paths[part]

    def bytes(self, i: int) -> np.ndarray:
        """Sample i's bytes, uint8, a view: a JPEG file (mode 0), or pixels [H * W * 3] (mode 1)."""
        start = int(self.offsets_N[i])
        return self.part_bytes(int(self.parts_N[i]))[start : start + int(self.sizes_N[i])]

    def where(self, i: int) -> str:
        """`train-00000.beton: sample 812 (class 40 'apple', from apple/3.jpg)`, for error messages,
        whatever state the table is in."""
        label, part = int(self.labels_N[i]), int(self.parts_N[i])
        inside = 0 <= part < len(self.part_paths)
        file = self.part_paths[part].name if inside else f"{self.name}.index, part {part}"
        name = repr(self.class_names[label]) if 0 <= label < self.num_classes else "of none"
        return f"{file}: sample {i} (class {label} {name}, from {self.source_name(i)})"

    def source_name(self, i: int) -> str:
        """Where the image came from; "an unknown file" where the table's names are damaged."""
        try:
            return Names(self.column("names"), self.column("name_starts"))[i]
        except UserError:
            return "an unknown file"

    def close(self) -> None:
        """Forgets the maps; they end when nobody holds an array of them any more."""
        self._parts.clear()
        self._columns.clear()


def _advice(folder: Path) -> str:
    return f'run "fasttail verify {folder}"'
