"""List files, `path label` a line, and the data sets that are published as such.

    list         any: train.txt, val.txt, test.txt in --lists (or one file: train alone)
    imagenet-lt  ImageNet_LT_train.txt, ..., of Liu et al. 2019; images as ImageNet unpacks
    places-lt    Places_LT_train.txt, ...; images in data_256/ or train/, by letter or not
    inat2018     iNaturalist18_train.txt, ...; its JSON files are read by inat.py

A file may be compressed (`.txt.gz`). Paths are relative to --source and can't leave it.
"""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fasttail.config import ConvertConfig
from fasttail.datasets import paths, published
from fasttail.datasets.base import FileImages, Index, SplitIndex
from fasttail.datasets.folder import VAL_FRACTION, need_folder
from fasttail.datasets.labels import folder_name
from fasttail.datasets.namelist import Names
from fasttail.datasets.paths import Layout
from fasttail.errors import UserError

MAX_LIST_BYTES = 4 << 30  # also of what a compressed one unpacks to
MAX_BLANK_LINES = 1_000_000
MAX_LABEL = 10_000_000
_SPLITS = {"train": "train", "val": "val(?:id(?:ation)?)?", "test": "test"}


@dataclass(frozen=True)
class Listed:
    """A list file's content: N paths as they are written, and labels int64 [N]."""

    file: Path
    paths: Names
    labels_N: np.ndarray
    notes: tuple[str, ...] = ()


def index(source: Path | None, cfg: ConvertConfig, *, name: str) -> Index:
    """A data set given by list files. Raises `UserError` for whatever does not fit."""
    root = need_folder(name, source)
    known = published.KNOWN.get(name)
    lists = find_lists(root, cfg.lists, known.word if known else "")
    index = from_lists(
        name if known else root.resolve().name,
        root,
        {split: read_list(path, cfg.encoding) for split, path in lists.items()},
        known.layouts if known else paths.in_encoding(cfg.encoding),
        cfg,
        stats=known.stats if known else None,
        val_fraction=0.0 if known else VAL_FRACTION,
    )
    return published.check(index, name, cfg)


def from_lists(
    name: str,
    root: Path,
    lists: dict[str, Listed],
    layouts: tuple[Layout, ...],
    cfg: ConvertConfig,
    *,
    stats: published.Stats | None,
    val_fraction: float,
    class_names: tuple[str, ...] | None = None,
) -> Index:
    """The index of images under `root` that lists name, one list a split. Where classes have no
    published numbers, they are train's different labels, in their order."""
    train = lists["train"].labels_N
    if class_names is not None:
        numbers_C = np.arange(len(class_names))
    else:
        numbers_C = np.arange(train.max() + 1) if stats else np.unique(train)
    splits = {}
    for split, listed in lists.items():
        strange = np.flatnonzero(~np.isin(listed.labels_N, numbers_C))
        if len(strange):
            raise UserError(
                f"{listed.file}: image {strange[0] + 1} has label {listed.labels_N[strange[0]]}, a "
                f"class that train lacks: train has classes {numbers_C[0]} to {numbers_C[-1]}"
            )
        located = paths.locate(root, listed.paths, layouts, listed.file)
        paths.refuse_outside(root, located, listed.file)
        labels_N = np.searchsorted(numbers_C, listed.labels_N)
        splits[split] = SplitIndex(FileImages(root, located, inside=True), labels_N)
    class_names = class_names or names_by_folder(
        lists["train"].file, lists["train"].paths, splits["train"].labels_N, numbers_C
    )
    return Index(
        name,
        class_names,
        splits,
        stats.mean if stats else None,
        stats.std if stats else None,
        tuple(note for listed in lists.values() for note in listed.notes),
        val_fraction,
    )


def find_lists(root: Path, given: Path | None, word: str) -> dict[str, Path]:
    """The list file of every split: in `--lists`, or beside the images. Of several for a split the
    one is taken whose name has `word` in it.

    Raises `UserError` if there is none for train, or several for one.
    """
    if given is not None and given.is_file():
        return {"train": given}
    folder = given or root
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: give the one that holds the lists with --lists")
    found: dict[str, Path] = {}
    for split, called in _SPLITS.items():
        pattern = re.compile(rf"(?:.*[^a-z])?{called}\.(?:txt|lst|list)(?:\.gz)?", re.IGNORECASE)
        fits = sorted(p for p in folder.iterdir() if pattern.fullmatch(p.name) and p.is_file())
        named = [p for p in fits if word and word in p.name.lower()]
        fits = named if len(fits) > 1 and named else fits
        if len(fits) > 1:
            raise UserError(
                f"{folder} has several lists for {split}: {', '.join(p.name for p in fits)}: "
                "name a folder with one each by --lists"
            )
        if fits:
            found[split] = fits[0]
    if "train" not in found:
        raise UserError(
            f"{folder} has no list of train: expected a file like train.txt or NAME_train.txt, "
            "each line 'path label'; name its folder with --lists"
        )
    return found


def read_list(path: Path, encoding: str | None = None) -> Listed:
    """Reads `path label` lines; the label is what follows the last blank.

    Raises `UserError` that names the line that does not fit.
    """
    labels: list[int] = []

    def listed() -> Iterator[str]:
        for number, line in enumerate(_lines(path, encoding), 1):
            text = line.strip()
            if not text:
                continue
            parts = text.rsplit(None, 1)
            if len(parts) != 2 or not re.fullmatch(r"\d{1,8}", parts[1], re.ASCII):
                raise UserError(f"{path}: line {number} is not 'path label': {text[:80]!r}")
            if int(parts[1]) > MAX_LABEL:
                raise UserError(f"{path}: line {number}: label {parts[1]} is above {MAX_LABEL}")
            labels.append(int(parts[1]))
            yield parts[0]

    names = Names.of(listed())
    if not labels:
        raise UserError(f"{path} lists no image")
    return Listed(path, names, np.asarray(labels, np.int64), about_mark(path))


def about_mark(path: Path) -> tuple[str, ...]:
    """What to say of a file that begins with a byte-order mark, as Windows writes it."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        marked = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    return (f"{path}: its byte-order mark is left out of the first line",) * marked


def _lines(path: Path, encoding: str | None) -> Iterator[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    read = blank = 0
    try:
        with opener(path, "rt", encoding=encoding or "utf-8-sig", errors="surrogateescape") as file:
            # A line without an end is as much of a bomb as too many lines.
            while line := file.readline(1 << 16):
                read += len(line)
                blank += line.isspace()
                if read > MAX_LIST_BYTES or len(line) >= 1 << 16 or blank > MAX_BLANK_LINES:
                    raise UserError(f"{path}: too large, or no text: this is no list of images")
                yield line
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def names_by_folder(
    file: Path, listed: Names, labels_N: np.ndarray, numbers_C: np.ndarray
) -> tuple[str, ...]:
    """Class names: the folder that all images of a class are in, if each class has one of its own;
    else the numbers. Raises `UserError` for a folder whose name can't be printed."""
    folder_C: list[str | None] = [None] * len(numbers_C)
    for i, (path, label) in enumerate(zip(listed, labels_N.tolist(), strict=True)):
        folder = path.rsplit("/", 2)[-2] if "/" in path else ""
        if folder_C[label] is None:
            folder_C[label] = folder_name(folder, f"{file}: image {i + 1}", None)
        elif folder_C[label] != folder:
            break
    else:
        names = tuple(folder or "" for folder in folder_C)
        if all(names) and len(set(names)) == len(numbers_C):
            return names
    return tuple(map(str, numbers_C.tolist()))
