"""What `--locality pages` saves, by simulation: pages read, and how batches are mixed.

    python tools/simulate_locality.py --counts inaturalist18_train_counts.json

An epoch of class-balanced draws goes through a cache of `--window-gib` that throws out the least
recently used images. An image that isn't there has its whole page read, and all images of the page
go into the cache. "pinned": the resident classes of the order by pages (half of the memory at most)
are read once, page by page, and stay, and the cache has what is left. Images have a log-normal
spread of sizes. `--counts` is a JSON list of training images per class.

Reported for images stored class by class or shuffled: pages read in an epoch, the same against
reading the set once, classes in a batch, and how often two images of a batch are of one class,
against independent draws (1 is as independent as these).
"""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import njit

from fasttail.plan.locality import PagedOrder, Pages
from fasttail.plan.orders import Epoch, IidOrder, QuotaOrder
from fasttail.plan.samplers import class_balanced

BATCH = 512


def split_of(counts_C: np.ndarray, image_bytes: int, shuffled: bool) -> Any:
    generator = np.random.default_rng(0)
    labels_N = np.repeat(np.arange(len(counts_C)), counts_C)
    if shuffled:
        generator.shuffle(labels_N)
    spread_N = generator.lognormal(0.0, 0.5, len(labels_N))
    return SimpleNamespace(
        indptr_C1=np.concatenate([[0], np.cumsum(counts_C)]),
        samples_N=np.argsort(labels_N, kind="stable"),
        labels_N=labels_N,
        sizes_N=(spread_N / spread_N.mean() * image_bytes).astype(np.int64),
    )


@njit
def pages_read(ids_B, page_N, page_starts_P1, sizes_N, pinned_N, cache_bytes):
    """How many pages a cache of the least recently used images reads, in this order of draws."""
    size = len(sizes_N)
    newer, older = np.full(size + 1, -1), np.full(size + 1, -1)
    ring = size  # newest is older[ring], oldest is newer[ring]
    newer[ring], older[ring] = ring, ring
    held, reads = 0, 0
    for wanted in ids_B:
        if pinned_N[wanted]:
            continue
        first, last = wanted, wanted + 1
        if newer[wanted] < 0:
            reads += 1
            first, last = page_starts_P1[page_N[wanted]], page_starts_P1[page_N[wanted] + 1]
        for turn in range(first, last + 1):
            i = wanted if turn == last else turn  # the image wanted comes last: newest
            if pinned_N[i]:
                continue
            if newer[i] >= 0:
                newer[older[i]], older[newer[i]] = newer[i], older[i]
            else:
                held += sizes_N[i]
            older[i], newer[i] = older[ring], ring
            newer[older[ring]] = i
            older[ring] = i
        while held > cache_bytes:
            oldest = newer[ring]
            newer[ring], older[newer[oldest]] = newer[oldest], ring
            newer[oldest] = -1
            held -= sizes_N[oldest]
    return reads


def mixing(classes_B: np.ndarray, p_C: np.ndarray) -> tuple[float, float]:
    """Classes in a batch, and pairs of one class against independent draws, means over batches."""
    distinct, pairs = [], []
    for batch in classes_B[: len(classes_B) // BATCH * BATCH].reshape(-1, BATCH):
        counts_C = np.bincount(batch)
        distinct.append((counts_C > 0).sum())
        pairs.append((counts_C * (counts_C - 1)).sum() / (BATCH * (BATCH - 1)))
    return float(np.mean(distinct)), float(np.mean(pairs) / (p_C**2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description="What an order by pages saves, by simulation.")
    parser.add_argument("--counts", type=Path, required=True)
    parser.add_argument("--image-kib", type=int, default=262, help="mean size of an image")
    parser.add_argument("--page-mib", type=int, default=8)
    parser.add_argument("--window-gib", type=float, nargs="+", default=[8, 16, 32, 64])
    args = parser.parse_args()

    counts_C = np.array(json.loads(args.counts.read_text()))
    p_C = class_balanced(counts_C, 0.0)
    epoch = Epoch(0, 0, int(counts_C.sum()) // BATCH, BATCH)
    print(f"{counts_C.sum()} images of {len(counts_C)} classes, {args.image_kib} KiB on average, ")
    print(f"pages of {args.page_mib} MiB, class-balanced, batches of {BATCH}\n")
    independent_B = IidOrder(split_of(counts_C, 1, True), p_C, epoch).draw(0, epoch.total)[1]
    distinct, pairs = mixing(independent_B, p_C)
    print(f"independent draws: {distinct:.1f} classes in a batch, same-class pairs {pairs:.2f}\n")
    print(
        f"stored     window    {'order':18}   pages read   x the set   classes   same-class pairs"
    )
    for shuffled in (False, True):
        split = split_of(counts_C, args.image_kib << 10, shuffled)
        for gib in args.window_gib:
            pages = Pages(args.page_mib << 20, int(gib * 2**30))
            paged = PagedOrder(split, p_C, epoch, pages)
            starts_P1 = paged.page_starts_P1
            page_N = np.repeat(np.arange(len(starts_P1) - 1), np.diff(starts_P1))
            orders = {"plain": QuotaOrder(split, p_C, epoch), "by pages": paged}
            drawn = {name: order.draw(0, epoch.total) for name, order in orders.items()}
            pinned_N = paged.resident_C[split.labels_N]
            pinned_bytes = int(split.sizes_N[pinned_N].sum())
            for name, (ids_B, classes_B) in drawn.items():
                distinct, pairs = mixing(classes_B, p_C)
                for pinned in (False, True):
                    reads = pages_read(
                        ids_B,
                        page_N,
                        starts_P1,
                        split.sizes_N,
                        pinned_N & pinned,
                        pages.window_bytes - pinned * pinned_bytes,
                    ) + pinned * len(np.unique(page_N[pinned_N]))
                    print(
                        f"{'shuffled' if shuffled else 'by class':10} {gib:3g} GiB   "
                        f"{name + (', pinned' if pinned else ''):18} {reads:12,} "
                        f"{reads / (len(starts_P1) - 1):11.2f} {distinct:9.1f} {pairs:18.2f}"
                    )


if __name__ == "__main__":
    main()
