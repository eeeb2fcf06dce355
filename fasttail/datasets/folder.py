"""A folder of images: `train/<class>/*`, and if there are any `val/<class>/*`, `test/<class>/*`.

Classes are the folders in `train`, in the order of their names. Images may lie deeper.
`<class>/*` without a `train` folder is read as train alone.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fasttail.config import ConvertConfig
from fasttail.datasets.base import IMAGE_SUFFIXES, FileImages, Index, SplitIndex
from fasttail.datasets.labels import folder_name
from fasttail.datasets.namelist import Names
from fasttail.errors import UserError

VAL_FRACTION = 0.1
# Names that people give to the same split.
_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def index(source: Path | None, cfg: ConvertConfig) -> Index:
    """The data set in the folder `source`, named after it.

    Raises `UserError` if the folder or its images are missing, a class has no image in train, or
    val or test have a class that train lacks.
    """
    root = need_folder("folder", source)
    splits, class_names, notes = read_splits(root, cfg.encoding)
    return Index(root.resolve().name, class_names, splits, None, None, notes, VAL_FRACTION)


def need_folder(dataset: str, source: Path | None) -> Path:
    """`source`, if it is a folder."""
    if source is None:
        raise UserError(f"--dataset {dataset} needs --source: the folder that the images are in")
    if not source.is_dir():
        raise UserError(f"no folder {source}: give the data set's folder with --source")
    return source


def read_splits(
    root: Path, encoding: str | None
) -> tuple[dict[str, SplitIndex], tuple[str, ...], tuple[str, ...]]:
    """(splits, class names, notes) of a folder of images."""
    found: dict[str, Path] = {}
    for name in _folders(root):
        for split, names in _SPLITS.items():
            if name.lower() in names:
                if split in found:
                    raise UserError(
                        f"{found[split]} and {root / name} are both called {split}'s: rename one"
                    )
                found[split] = root / name
    notes: tuple[str, ...] = ()
    if "train" not in found:
        if found or not any(_folders(root)):
            raise UserError(
                f"{root} has no folder train: expected {root}/train/<class>/<image>, and if there "
                "are any val/<class>/<image> and test/<class>/<image>"
            )
        found = {"train": root}
        notes = (
            f"{root.name} has no train folder: its folders are the classes, all of it is train",
        )
    class_names = tuple(_folders(found["train"]))
    if not class_names:
        raise UserError(f"{found['train']} has no class folders: expected one folder a class")
    number = {name: c for c, name in enumerate(class_names)}
    class_names = tuple(folder_name(name, found["train"], encoding) for name in class_names)
    splits = {}
    for split, folder in ((s, found[s]) for s in _SPLITS if s in found):
        extra = [name for name in _folders(folder) if name not in number]
        if extra:
            raise UserError(
                f"{folder / extra[0]}: train has no class {extra[0]!r}"
                + (f" (and {len(extra) - 1} more)" if len(extra) > 1 else "")
                + f": add it to {found['train']}, or take it out of {folder}"
            )
        splits[split] = _read_split(root, folder, number)
        if split == "train":
            _refuse_empty(splits[split], folder, tuple(number))
        elif not len(splits[split].labels_N):
            raise UserError(f"{folder} has no image: add images, or remove the folder")
    return splits, class_names, notes


def _refuse_empty(train: SplitIndex, folder: Path, class_names: tuple[str, ...]) -> None:
    counts_C = np.bincount(train.labels_N, minlength=len(class_names))
    empty = np.flatnonzero(counts_C == 0)
    if len(empty):
        more = f" (and {len(empty) - 1} more classes)" if len(empty) > 1 else ""
        raise UserError(
            f"{folder / class_names[empty[0]]} has no image{more}: add images, or remove the "
            f"folder (looked for {', '.join(IMAGE_SUFFIXES[:8])}, ...)"
        )


def _read_split(root: Path, folder: Path, number: dict[str, int]) -> SplitIndex:
    labels: list[int] = []
    # As text: a path's object would drop a leading "./", and be slower.
    base = "/".join((str(root), *folder.relative_to(root).parts))
    above = len(str(root)) + 1

    def paths() -> Iterator[str]:
        for name, c in number.items():
            if (folder / name).is_dir():
                for path in image_files(f"{base}/{name}"):
                    labels.append(c)
                    yield path[above:]

    names = Names.of(paths())
    return SplitIndex(FileImages(root, names), np.asarray(labels, np.int64))


def _folders(folder: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def image_files(folder: str) -> Iterator[str]:
    """Image files below a folder, in the order of their names. Hidden files are left out, and links
    to folders are not followed."""
    entries = sorted(os.scandir(folder), key=lambda e: e.name)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # Links to folders are not followed: they can lead in circles.
        if entry.is_dir(follow_symlinks=False):
            yield from image_files(entry.path)
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            yield entry.path
