"""Near copies across splits: images of val or test that look like one of train, as neighbouring
frames of a video do, a photograph saved twice, or its thumbnail.

Images are candidates if their difference hashes (64 bits: whether each of 8 x 8 points is brighter
than its right neighbour) differ in few bits, and near copies if their thumbnails are alike too:
skies and studio backgrounds have the same hash. Memory is bounded: of a large split some images are
looked at, evenly spread over it.
"""

from contextlib import closing
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fasttail import engines
from fasttail.compute import pick
from fasttail.config import ComputeConfig
from fasttail.engines.auto import choose
from fasttail.plan.contract import BatchPlan
from fasttail.plan.view import View
from fasttail.shards import Shards, Split
from fasttail.world import World

LOOKED_AT = 10_000  # images of a split, at most
BITS = 6  # of 64 that may differ
LEVELS = 10.0  # of 255: mean difference between thumbnails that are alike
FLAT = 4.0  # of 255: a thumbnail that varies by less shows nothing
THUMBNAIL_HW = (16, 18)
_BATCH = 256
_BLOCK = 512


@dataclass(frozen=True)
class NearCopies:
    """`looked_at`: images by split. `across`: by pair of splits ("train, test"), how many of the
    second's that were looked at have a near copy among the first's; exact ones count. `examples`:
    of each pair, some (sample of the first, of the second)."""

    looked_at: dict[str, int]
    across: dict[str, int]
    examples: dict[str, list[tuple[int, int]]]

    def __str__(self) -> str:
        pairs = ((pair.split(", "), n) for pair, n in self.across.items() if n)
        return "; ".join(
            f"{n:,} of {self.looked_at[b]:,} images of {b} that were looked at look like one of "
            f"{self.looked_at[a]:,} of {a}"
            for (a, b), n in pairs
        )


def find(opened: Shards, limit: int = LOOKED_AT) -> NearCopies:
    """Decodes thumbnails of up to `limit` images a split. `CorruptSample` if one can't be."""
    looks = {name: _Look.at(opened.split(name), limit) for name in opened.split_names}
    across, examples = {}, {}
    for a, b in combinations(looks, 2):
        found = _alike(looks[a], looks[b])
        across[f"{a}, {b}"] = len(found)
        examples[f"{a}, {b}"] = found[:6]
    return NearCopies({name: len(look.ids_M) for name, look in looks.items()}, across, examples)


def difference_hash(grey_MHW: np.ndarray) -> np.ndarray:
    """uint64 [M] of grey thumbnails [M, 16, 18]: the means of 2 x 2 pixels, each against its right
    neighbour."""
    small_M89 = grey_MHW.reshape(-1, 8, 2, 9, 2).mean((2, 4))
    bits_M64 = (small_M89[:, :, 1:] < small_M89[:, :, :-1]).reshape(-1, 64)
    return np.packbits(bits_M64, axis=1).view(np.uint64)[:, 0]


@dataclass(frozen=True)
class _Look:
    """M images of a split: sample ids, hashes uint64, thumbnails uint8 [M, 16, 18, 3]."""

    ids_M: np.ndarray
    hashes_M: np.ndarray
    thumbnails_MHW3: np.ndarray

    @staticmethod
    def at(split: Split, limit: int) -> "_Look":
        ids_M = np.unique(np.linspace(0, len(split) - 1, min(limit, len(split))).astype(np.int64))
        compute = pick(ComputeConfig(device="cpu"), World())
        name, _ = choose(split, compute.device)
        with closing(engines.make(name, split, device=compute.device, threads=0)) as engine:
            batches = [batch.images_BHWC.numpy() for batch in engine.run(_Thumbnails(split, ids_M))]
        thumbnails = np.concatenate(batches)
        grey_MHW = thumbnails.mean(3)
        shows_M = grey_MHW.std((1, 2)) >= FLAT
        return _Look(ids_M[shows_M], difference_hash(grey_MHW[shows_M]), thumbnails[shows_M])


def _alike(first: _Look, second: _Look) -> list[tuple[int, int]]:
    """Of each image of the second that has a near copy in the first: (that one's sample, its)."""
    found = []
    for start in range(0, len(second.ids_M), _BLOCK):
        block = slice(start, start + _BLOCK)
        apart_KM = np.bitwise_count(second.hashes_M[block, None] ^ first.hashes_M)
        near: dict[int, int] = {}
        for k, m in zip(*np.nonzero(apart_KM <= BITS), strict=True):
            if int(k) not in near and _same_look(
                second.thumbnails_MHW3[start + k], first.thumbnails_MHW3[m]
            ):
                near[int(k)] = int(m)
        found += [(int(first.ids_M[m]), int(second.ids_M[start + k])) for k, m in near.items()]
    return found


def _same_look(a_HW3: np.ndarray, b_HW3: np.ndarray) -> bool:
    return float(np.abs(a_HW3.astype(np.int16) - b_HW3).mean()) <= LEVELS


class _Thumbnails:
    """A plan: whole images of these samples, small."""

    def __init__(self, split: Split, ids_M: np.ndarray) -> None:
        self._split, self._ids_M = split, ids_M
        self._look = View.whole(THUMBNAIL_HW).at(seed=0, epoch=0)
        self.out_hw = THUMBNAIL_HW
        self.max_batch = min(_BATCH, len(ids_M))
        self.steps = -(-len(ids_M) // _BATCH)

    def batch(self, step: int) -> BatchPlan:
        ids_B = self._ids_M[step * _BATCH : (step + 1) * _BATCH]
        split = self._split
        heights_B, widths_B = np.asarray(split.heights_N)[ids_B], np.asarray(split.widths_N)[ids_B]
        return BatchPlan(
            ids_B,
            np.asarray(split.labels_N)[ids_B].astype(np.int64),
            self._look.boxes(0, heights_B, widths_B),
            self._look.flips(0, len(ids_B)),
        )
