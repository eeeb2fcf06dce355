"""WebDataset shards: tars whose members of one name are a sample: `812.jpg`, `812.cls`.

--source is a folder with `train-*.tar` (or `train/*.tar`), `val-*.tar`, `test-*.tar`, or one tar.
Tars of no split's name are train. The label is the text of the `.cls` member, or what the `.json`
member has under `--label-key`: a number, or a class's name (`labels.py`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fasttail.config import ConvertConfig
from fasttail.datasets.base import IMAGE_SUFFIXES, Index, SplitIndex
from fasttail.datasets.folder import VAL_FRACTION
from fasttail.datasets.labels import classes
from fasttail.datasets.namelist import Names
from fasttail.datasets.tars import Member, TarImages, members
from fasttail.errors import UserError

MAX_LABEL_BYTES = 16 << 20
_SPLIT_WORDS = {"train": "train", "val": "val(?:id(?:ation)?)?", "test": "test"}


def index(source: Path | None, cfg: ConvertConfig) -> Index:
    """The data set in WebDataset shards. Raises `UserError` for whatever does not fit."""
    if source is None or not source.exists():
        raise UserError(
            f"no {source}: give the folder of the tars, or one tar, with --source"
            if source
            else "--dataset webdataset needs --source: the folder of the tars, or one tar"
        )
    tars = (
        [source] if source.is_file() else sorted((*source.glob("*.tar"), *source.glob("*/*.tar")))
    )
    if not tars:
        raise UserError(f"{source} has no *.tar")
    name = (source.parent if source.is_file() else source).resolve().name
    return replace(from_tars(name, by_split(tars), cfg), val_fraction=VAL_FRACTION)


def by_split(tars: Iterable[Path]) -> dict[str, list[Path]]:
    """Tars by the split that their name or their folder's name tells; else train."""
    found: dict[str, list[Path]] = {}
    for path in tars:
        found.setdefault(split_of(path) or "train", []).append(path)
    return {split: found[split] for split in _SPLIT_WORDS if split in found}


def split_of(path: Path) -> str | None:
    """The split that a file's name, or its folder's, begins with or is."""
    for split, word in _SPLIT_WORDS.items():
        begins = re.compile(rf"{word}(?![a-z])", re.IGNORECASE)
        if begins.match(path.name) or begins.fullmatch(path.parent.name):
            return split
    return None


def from_tars(name: str, tars: Mapping[str, list[Path]], cfg: ConvertConfig) -> Index:
    """The index of tars, given by split."""
    if "train" not in tars:
        raise UserError(f"{name}: none of the tars is train's: {', '.join(map(str, tars))}")
    read = {split: _read(paths, cfg) for split, paths in tars.items()}
    class_names = classes(read["train"].labels, read["train"].images.name)
    number = {label: c for c, label in enumerate(class_names)}
    splits = {}
    for split, samples in read.items():
        strange = next((i for i, label in enumerate(samples.labels) if label not in number), None)
        if strange is not None:
            raise UserError(
                f"{samples.images.name(strange)} has label {samples.labels[strange]!r}, a class "
                "that train lacks"
            )
        labels_N = np.array([number[label] for label in samples.labels], np.int64)
        splits[split] = SplitIndex(samples.images, labels_N)
    return Index(name, class_names, splits, None, None)


@dataclass(frozen=True)
class _Samples:
    images: TarImages
    labels: list[str]


def _read(tars: list[Path], cfg: ConvertConfig) -> _Samples:
    files, offsets, sizes, labels = [], [], [], []

    def names() -> Iterator[str]:
        for number, path in enumerate(tars):
            with path.open("rb") as file:
                for key, sample in _grouped(path):
                    image = next((sample[e] for e in _EXTENSIONS if e in sample), None)
                    if image is None:
                        raise UserError(f"{path}: sample {key!r} has no image: {_names(sample)}")
                    label = _label(path, key, sample, cfg.label_key)
                    if label.size > MAX_LABEL_BYTES:
                        raise UserError(f"{path}: {label.name} is too large for a label")
                    file.seek(label.at)
                    labels.append(_parse(path, label, file.read(label.size), cfg))
                    files.append(number)
                    offsets.append(image.at)
                    sizes.append(image.size)
                    yield image.name

    found = Names.of(names())
    if not labels:
        raise UserError(f"{tars[0]} and the others of its split hold no samples")
    images = TarImages(
        tuple(tars),
        np.array(files, np.int32),
        np.array(offsets, np.int64),
        np.array(sizes, np.int64),
        found,
    )
    return _Samples(images, labels)


_EXTENSIONS = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)


def _grouped(path: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """(key, extension -> member): members that stand together and have the same name up to its
    first dot, as in WebDataset. Names without a dot, and hidden ones, are no samples."""
    key, sample = "", {}
    for member in members(path):
        folder, _, file = member.name.rpartition("/")
        stem, dot, extension = file.partition(".")
        if not dot or not stem:
            continue
        this = f"{folder}/{stem}"
        if this != key and sample:
            yield key, sample
            sample = {}
        key = this
        sample[extension.lower()] = member
    if sample:
        yield key, sample


def _label(path: Path, key: str, sample: dict[str, Member], label_key: str | None) -> Member:
    wanted = "cls" if label_key is None else "json"
    if wanted not in sample:
        hint = "; is it in the .json? --label-key KEY" if "json" in sample else ""
        raise UserError(f"{path}: sample {key!r} has no .{wanted}: {_names(sample)}{hint}")
    return sample[wanted]


def _parse(path: Path, member: Member, data: bytes, cfg: ConvertConfig) -> str:
    try:
        if cfg.label_key is None:
            text = data.decode(cfg.encoding or "utf-8").strip()
        else:
            text = json.loads(data)[cfg.label_key]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: {member.name}: no label in it: {type(error).__name__}: {error}"
        ) from None
    if isinstance(text, bool) or not isinstance(text, str | int) or text == "":
        raise UserError(f"{path}: {member.name}: {text!r} is no label")
    return str(text)


def _names(sample: dict[str, Member]) -> str:
    return ", ".join(member.name for member in sample.values())
