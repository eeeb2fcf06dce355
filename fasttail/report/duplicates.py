"""Exact copies among a data set's images, within a split and across splits.

Samples of one size and crc32 are candidates; the table has both, so nothing is read for the rest.
Candidates are copies if their bytes are the same. An image that was encoded twice is none.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations

import numpy as np

from fasttail.shards import Shards, Split

SHOWN = 6  # groups


@dataclass(frozen=True)
class Copy:
    """One image of a group of copies."""

    split: str
    sample: int
    name: str
    class_name: str


@dataclass(frozen=True)
class Duplicates:
    """`within`: by split, images that are there already under a smaller number. `across`: by pair
    of splits ("train, test"), images of the second that the first has too: leakage. `conflicting`:
    groups of copies whose classes differ. `examples`: some groups, leaking ones first."""

    within: dict[str, int]
    across: dict[str, int]
    conflicting: int
    examples: list[list[Copy]]


def find(opened: Shards) -> Duplicates:
    """Looks at all splits. `UserError` if images that look alike can't be read."""
    splits = [opened.split(name) for name in opened.split_names]
    within: Counter[str] = Counter(dict.fromkeys(opened.split_names, 0))
    across: Counter[str] = Counter({f"{a}, {b}": 0 for a, b in combinations(opened.split_names, 2)})
    conflicting = 0
    groups: list[tuple[bool, bool, list[tuple[int, int]]]] = []
    for group in _groups(splits):
        in_split = Counter(splits[number].name for number, _ in group)
        for name, count in in_split.items():
            within[name] += count - 1
        for a, b in combinations([n for n in opened.split_names if n in in_split], 2):
            across[f"{a}, {b}"] += in_split[b]
        labels = {int(splits[number].labels_N[i]) for number, i in group}
        conflicting += len(labels) > 1
        groups.append((len(in_split) > 1, len(labels) > 1, group))
    groups.sort(key=lambda found: found[:2], reverse=True)
    examples = [
        [_copy(splits[number], i) for number, i in group[:SHOWN]] for *_, group in groups[:SHOWN]
    ]
    return Duplicates(dict(within), dict(across), conflicting, examples)


def _groups(splits: list[Split]) -> Iterator[list[tuple[int, int]]]:
    """Groups of two or more (number of the split, sample) with the same bytes."""
    # Sizes stay below 2^32 in both containers.
    key_M = np.concatenate(
        [
            np.asarray(split.sizes_N).astype(np.uint64) << np.uint64(32)
            | np.asarray(split.crc32_N).astype(np.uint64)
            for split in splits
        ]
    )
    starts = np.cumsum([0, *(len(split) for split in splits)])
    order_M = np.argsort(key_M, kind="stable")
    edges = np.flatnonzero(np.r_[True, np.diff(key_M[order_M]) != 0, True])
    for k in np.flatnonzero(np.diff(edges) > 1):
        same: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        for m in order_M[edges[k] : edges[k + 1]].tolist():
            number = int(np.searchsorted(starts, m, "right")) - 1
            split, i = splits[number], m - int(starts[number])
            # The same raw bytes are another image where its height is another.
            content = (sha256(split.bytes(i).tobytes()).digest(), int(split.heights_N[i]))
            same.setdefault(content, []).append((number, i))
        yield from (group for group in same.values() if len(group) > 1)


def _copy(split: Split, i: int) -> Copy:
    label = int(split.labels_N[i])
    return Copy(split.name, i, split.source_name(i), split.class_names[label])
