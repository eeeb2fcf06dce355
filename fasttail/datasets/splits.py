"""Which images are held out of train, so that nothing of train is measured on.

Frames of one video, photographs of one burst and exact copies are no new images: where some are in
train and others in val, val measures what was learnt by heart. So whole groups are held out: all
images of a group go to one split. Unless `--group-by` or `--group-column` tell groups, an image and
its exact copies are one.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256

import numpy as np

from fasttail.config import ConvertConfig
from fasttail.datasets.base import Images, Index, SplitIndex
from fasttail.errors import UserError

SPLITS = ("train", "val", "test")
# Purposes of random numbers; they are part of what a seed means (`longtail.py` has others).
_PURPOSE = {"val": 2, "test": 4}
# A file's name up to its last number: `fish_0012_` of `fish_0012_00317.png`.
SERIES = r"([^/]*[^0-9/])[0-9]+[^0-9/]*$"
_WARN_ABOVE = 0.2  # of a split's images are of a series that train has too


def divide(index: Index, cfg: ConvertConfig) -> Index:
    """`index` with test and val held out of train where it lacks them and `cfg` wants them.

    Raises `UserError` if a group is in two of the splits that the source has, or the fractions
    leave train nothing.
    """
    splits, notes = dict(index.splits), list(index.notes)
    known = splits["train"].groups_N is not None
    if cfg.group_column is not None and not known:
        raise UserError(f"--group-column {cfg.group_column}: only csv and parquet have columns")
    if cfg.group_by is not None:
        if known:
            raise UserError("give --group-by or --group-column, not both")
        splits = _grouped(splits, re.compile(cfg.group_by))
    _refuse_straddling(index.name, splits)
    val = index.val_fraction if cfg.val_fraction is None else cfg.val_fraction
    shares = {"test": cfg.test_fraction, "val": val}
    shares = {split: share for split, share in shares.items() if share and split not in splits}
    for option, split, given in (
        ("--val-fraction", "val", cfg.val_fraction),
        ("--test-fraction", "test", cfg.test_fraction),
    ):
        if given and split in splits:
            notes.append(f"{split}: the source has one, so {option} holds nothing out")
    if sum(shares.values()) >= 1:
        raise UserError(
            f"--val-fraction {val:g} and --test-fraction {cfg.test_fraction:g} leave train nothing"
        )
    if shares:
        facts = splits["train"].images.facts()
        train, left = replace(splits["train"], facts=facts), 1.0
        groups_N = with_copies(train.images, facts.bytes_N, _groups(train))
        for split, share in shares.items():
            key = (_PURPOSE[split], cfg.seed)
            held_N = hold_out(train.labels_N, groups_N, share / left, key)
            if held_N.any():
                splits[split] = train.take(np.flatnonzero(held_N))
                train, groups_N = train.take(np.flatnonzero(~held_N)), groups_N[~held_N]
                notes.append(
                    f"{split}: {held_N.sum()} images held out of train, {share:g} of every class, "
                    f"seed {cfg.seed}: its class shares follow train's"
                )
            left -= share
        splits["train"] = train
    splits = {split: splits[split] for split in SPLITS if split in splits}
    if cfg.group_by is None and cfg.group_column is None:
        named = {split: (_names(found.images), found.labels_N) for split, found in splits.items()}
        notes += series_warnings(named)
    return replace(index, splits=splits, notes=tuple(notes))


def hold_out(
    labels_N: np.ndarray, groups_N: np.ndarray, fraction: float, key: tuple[int, int]
) -> np.ndarray:
    """bool [N]: the images that are held out: whole groups, of every class about `fraction` of its
    images, never all of a class.

    Class by class, its groups (`groups_N`, any int64 numbers) come in a random order, by `key` and
    the class. One is held out if that brings its classes closer to their shares; where each image
    is a group, the shares are met but for rounding. Where all groups of a class are too large for
    that, the smallest is held out if most of the class stays: a class without an image can't be
    measured.
    """
    total_C = np.bincount(labels_N)
    wanted_C = np.clip(np.round(total_C * fraction).astype(np.int64), 0, np.maximum(total_C, 1) - 1)
    held_C, held_N = np.zeros_like(total_C), np.zeros(len(labels_N), bool)
    # Groups are numbered by their first images.
    _, first, number_N = np.unique(groups_N, return_index=True, return_inverse=True)
    group_N = np.argsort(np.argsort(first))[number_N]
    of_group, of_class = _Members(group_N), _Members(labels_N)
    tried = np.zeros(len(first), bool)

    def try_out(group: int, *, closer: bool) -> None:
        tried[group] = True
        images = of_group[group]
        classes, here = np.unique(labels_N[images], return_counts=True)
        before, after = held_C[classes], held_C[classes] + here
        wanted = wanted_C[classes]
        if closer and np.abs(after - wanted).sum() >= np.abs(before - wanted).sum():
            return
        if (after < total_C[classes]).all():
            held_C[classes] = after
            held_N[images] = True

    for c in np.flatnonzero(wanted_C).tolist():
        groups = np.unique(group_N[of_class[c]])
        for group in np.random.default_rng((*key, c)).permutation(groups).tolist():
            if held_C[c] >= wanted_C[c]:
                break
            if not tried[group]:
                try_out(group, closer=True)
        if not held_C[c]:
            sizes = np.array([len(of_group[group]) for group in groups])
            if 2 * sizes.min() <= total_C[c]:
                try_out(int(groups[np.argmin(sizes)]), closer=False)
    return held_N


class _Members:
    """The positions of each number 0, 1, ... in `numbers_N`, in their order."""

    def __init__(self, numbers_N: np.ndarray) -> None:
        self._order_N = np.argsort(numbers_N, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(numbers_N))])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> np.ndarray:
        if number >= len(self):
            raise IndexError(number)
        return self._order_N[self._starts[number] : self._starts[number + 1]]


def with_copies(images: Images, sizes_N: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    """int64 [N]: `groups_N`, with groups made one that have the same image, byte for byte.

    Images of one size are compared by a piece of each, and read whole where that is the same: of
    photographs, hardly more than the piece is read.
    """
    sets = [ids for ids in _Members(np.unique(sizes_N, return_inverse=True)[1]) if len(ids) > 1]
    for content in (images.probe, lambda i: _as_bytes(images.read(i))):
        sets = _alike(sets, content)
    parent: dict[int, int] = {}

    def root(group: int) -> int:
        while group in parent:
            group = parent[group]
        return group

    for ids in sets:
        for i in ids[1:]:
            a, b = sorted((root(int(groups_N[ids[0]])), root(int(groups_N[i]))))
            if a != b:
                parent[b] = a
    groups, which_N = np.unique(groups_N, return_inverse=True)
    return np.array([root(int(group)) for group in groups], np.int64)[which_N]


def _alike(sets: Sequence[np.ndarray], content: Callable[[int], bytes]) -> list[np.ndarray]:
    """The parts of `sets` of images whose contents are the same, where there are several."""

    def digests(ids: np.ndarray) -> list[bytes | None]:
        return [_digest(content, int(i)) for i in ids]

    found = []
    with ThreadPoolExecutor(16) as pool:  # for network file systems
        for ids, those in zip(sets, pool.map(digests, sets), strict=True):
            same: dict[bytes, list[int]] = {}
            for i, digest in zip(ids.tolist(), those, strict=True):
                if digest is not None:
                    same.setdefault(digest, []).append(i)
            found += [np.array(group) for group in same.values() if len(group) > 1]
    return found


def _as_bytes(image: bytes | np.ndarray) -> bytes:
    return image if isinstance(image, bytes) else image.tobytes()


def _digest(content: Callable[[int], bytes], i: int) -> bytes | None:
    try:
        return sha256(content(i)).digest()
    except OSError:
        return None  # the conversion will say why


def series_warnings(named: Mapping[str, tuple[Iterable[str], np.ndarray]]) -> list[str]:
    """Warnings of splits whose images continue train's: files numbered in many series of one
    beginning (frames of videos, bursts), some in train and some in val or test.

    `named`: of each split the images' names and labels int64 [N].
    """
    pattern = re.compile(SERIES)

    def series(names: Iterable[str]) -> Iterator[str]:
        for name in names:
            found = pattern.search(name)
            yield found[1] if found else ""

    names, labels_N = named["train"]
    in_train = set(series(names)) - {""}
    # One series of all images, or one a class, is how a camera or a data set numbers its files.
    if len(in_train) < 2 * len(np.unique(labels_N)):
        return []
    warnings = []
    for split in [split for split in named if split != "train"]:
        names, labels_N = named[split]
        share = sum(one in in_train for one in series(names)) / len(labels_N)
        if share > _WARN_ABOVE:
            warnings.append(
                f"WARNING: {share:.0%} of {split}'s images continue a numbered series of files "
                "that train has images of, as frames of one video do, and accuracy on it may be "
                f"too good: --group-by '{SERIES}' keeps a series in one split"
            )
    return warnings


def _groups(split: SplitIndex) -> np.ndarray:
    return np.arange(len(split.labels_N)) if split.groups_N is None else split.groups_N


def _grouped(splits: dict[str, SplitIndex], pattern: re.Pattern[str]) -> dict[str, SplitIndex]:
    """Groups by what `pattern` finds in an image's path: its first group, else the whole match."""
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        found = pattern.search(name)
        text = None if found is None else found[1 if pattern.groups else 0]
        if text is None:
            raise UserError(
                f"--group-by {pattern.pattern!r} finds nothing in {name!r}: every image needs a "
                "group"
            )
        return numbers.setdefault(text, len(numbers))

    return {
        split: replace(
            found, groups_N=np.array([number(name) for name in _names(found.images)], np.int64)
        )
        for split, found in splits.items()
    }


def _refuse_straddling(name: str, splits: dict[str, SplitIndex]) -> None:
    known = {split: found.groups_N for split, found in splits.items() if found.groups_N is not None}
    for k, (a, groups_N) in enumerate(known.items()):
        for b, others_N in list(known.items())[k + 1 :]:
            both = np.flatnonzero(np.isin(others_N, groups_N))
            if len(both):
                raise UserError(
                    f"{name}: {len(both):,} images of {b} are of groups that {a} has images of "
                    f"too, such as {splits[b].images.name(int(both[0]))}: move them, or take {b} "
                    "out of the source and have it held out"
                )


def _names(images: Images) -> Iterator[str]:
    return (images.name(i) for i in range(len(images)))
