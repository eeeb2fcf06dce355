"""`fasttail inspect`: what is in shards, as a training will meet it."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fasttail import shards
from fasttail.config import ShotsConfig
from fasttail.console import Reporter
from fasttail.datasets.splits import SERIES
from fasttail.errors import UserError
from fasttail.evaluate.shots import group_masks
from fasttail.report import duplicates, measure, near, need_packages
from fasttail.report.duplicates import Duplicates
from fasttail.report.measure import EpochTime
from fasttail.report.near import NearCopies
from fasttail.shards import Shards, tail
from fasttail.shards.columns import RAW

EXPONENTS = {"class": 0.0, "sqrt": 0.5}
BUDGETS = ("5%", "10%", "30%")
TOO_SMALL = 5  # training images: of fewer, hardly one can be held out to choose anything on
NAMED = 8  # classes in a line
PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class Inspection:
    """What `inspect` says. Sizes in pixels and bytes; shares in 0..1.

    `shot_groups` gives classes and training images of each group. `seek_share` is the seek index as
    a share of train's bytes, `cached` what the cache holds. `decoded_draws` is the share of draws,
    by sampler, that falls on images stored as pixels or in the cache; `budget_draws` what it would
    be if so many percent of the images were. `too_small` are classes with fewer than `TOO_SMALL`
    training images, `absent` those without an image in a split. `longer_side_px` by percentile.
    """

    name: str
    container: str
    images: dict[str, int]
    classes: int
    imbalance_factor: float
    largest: dict[str, int]
    smallest: dict[str, int]
    shot_groups: dict[str, dict[str, int]]
    median_hw: tuple[int, int]
    largest_hw: tuple[int, int]
    longer_side_px: dict[str, int]
    too_small: dict[str, int]
    absent: dict[str, list[str]]
    train_bytes: int
    stored: dict[str, dict[str, int]]
    seek_share: float
    cached: dict[str, int]
    decoded_draws: dict[str, float]
    budget_draws: dict[str, dict[str, float]]
    notes: tuple[str, ...]
    duplicates: Duplicates | None = None
    near: NearCopies | None = None
    epoch: EpochTime | None = None


def inspect(opened: Shards) -> Inspection:
    """Looks at the class-index table; no image is read."""
    split = opened.split("train")
    counts_C = split.counts_C
    labels_N = np.asarray(split.labels_N)
    heights_N, widths_N = np.asarray(split.heights_N), np.asarray(split.widths_N)
    inside = 0 <= labels_N.min() <= labels_N.max() < len(counts_C)
    if not inside or not np.array_equal(np.bincount(labels_N, minlength=len(counts_C)), counts_C):
        raise UserError(
            f"{opened.dir}: train's labels do not fit its classes' sizes: run \"fasttail verify "
            f'{opened.dir}"'
        )
    by_size = np.argsort(-counts_C, kind="stable")
    groups = group_masks(counts_C, ShotsConfig())

    def draws(kept: np.ndarray) -> dict[str, float]:
        return {name: tail.share_of_draws(labels_N, kept, q) for name, q in EXPONENTS.items()}

    def named(classes: np.ndarray) -> dict[str, int]:
        return {opened.class_names[c]: int(counts_C[c]) for c in classes}

    cache = split.cache
    order_N = tail.order(labels_N)
    decoded_N = np.asarray(split.modes_N) == RAW
    if cache is not None:
        decoded_N[cache.ids_K] = True
    shares = {budget: float(budget.rstrip("%")) / 100 for budget in BUDGETS}
    largest = int(np.argmax(heights_N.astype(np.int64) * widths_N))
    sides = np.percentile(np.maximum(heights_N, widths_N), PERCENTILES)
    empty = {
        name: np.flatnonzero(opened.split(name).counts_C == 0).tolist()
        for name in opened.split_names
    }
    return Inspection(
        name=opened.name,
        container=opened.meta.container,
        images={name: meta.samples for name, meta in opened.meta.splits.items()},
        classes=len(counts_C),
        imbalance_factor=float(counts_C.max() / counts_C.min()),
        largest=named(by_size[:3]),
        smallest=named(by_size[-3:]),
        shot_groups={
            group: {"classes": int(mask_C.sum()), "images": int(counts_C[mask_C].sum())}
            for group, mask_C in groups.items()
        },
        median_hw=(int(np.median(heights_N)), int(np.median(widths_N))),
        largest_hw=(int(heights_N[largest]), int(widths_N[largest])),
        longer_side_px={f"{p}%": round(side) for p, side in zip(PERCENTILES, sides, strict=True)},
        too_small=named(by_size[::-1][np.sort(counts_C) < TOO_SMALL]),
        absent={
            name: [opened.class_names[c] for c in classes]
            for name, classes in empty.items()
            if classes
        },
        train_bytes=int(np.asarray(split.sizes_N).sum()),
        stored=opened.meta.kinds,
        seek_share=0.0 if split.seek is None else split.seek[0].nbytes / int(split.sizes_N.sum()),
        cached={"images": cache.meta.images, "bytes": cache.meta.bytes} if cache else {},
        decoded_draws=draws(decoded_N),
        budget_draws={
            budget: draws(order_N[: int(len(split) * share)]) for budget, share in shares.items()
        },
        notes=opened.meta.notes,
    )


def show(
    folder: Path | str, *, as_json: bool, html: Path | None = None, seconds: float = measure.SECONDS
) -> None:
    """Prints an inspection as text, or as one JSON object, and writes it as a page to `html`.
    `seconds` is how long the engine is measured."""
    opened = shards.open(folder)
    found = inspect(opened)
    reporter = Reporter()
    # What reads images says so where it can't; the table has been read.
    try:
        found = replace(found, epoch=measure.epoch_time(opened, seconds))
        found = replace(found, duplicates=duplicates.find(opened))
        found = replace(found, near=near.find(opened))
    except UserError as error:
        reporter.say(f"not all could be measured: {error}")
    if as_json:
        reporter.json(asdict(found))
    else:
        reporter.facts(facts(found), f"{found.name} ({folder})")
    if html is not None:
        need_packages()
        from fasttail.report.inspect_page import write

        write(found, opened, html)
        reporter.say(f"page: {html}")


def facts(found: Inspection) -> dict[str, str]:
    """An inspection in words."""

    def classes(counts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in counts.items())

    def shares(by_sampler: dict[str, float]) -> str:
        return ", ".join(f"{sampler} {share:.1%}" for sampler, share in by_sampler.items())

    def groups(by_group: dict[str, dict[str, int]]) -> str:
        return "; ".join(
            f"{group} {of['classes']:,} classes, {of['images']:,} images"
            for group, of in by_group.items()
        )

    lines: dict[str, Any] = {
        "images": ", ".join(f"{name} {count:,}" for name, count in found.images.items()),
        "classes": f"{found.classes:,}, imbalance factor {found.imbalance_factor:g}",
        "largest": classes(found.largest),
        "smallest": classes(found.smallest),
        "shot groups": groups(found.shot_groups),
        "image size": "median {} x {}, largest {} x {} (height x width)".format(
            *found.median_hw, *found.largest_hw
        ),
        "longer side": ", ".join(
            f"{p} of images up to {px} px" for p, px in found.longer_side_px.items()
        ),
        "train": f"{found.train_bytes / 2**20:,.1f} MiB in {found.container}",
        "stored": "; ".join(
            f"{split}: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
            for split, kinds in found.stored.items()
        ),
        "seek index": f"{found.seek_share:.2%} of train" if found.seek_share else "none",
        "cache": f"{found.cached['images']:,} images, {found.cached['bytes'] / 2**20:,.1f} MiB"
        if found.cached
        else "none",
        "draws without decoding": shares(found.decoded_draws),
    }
    for budget, by_sampler in found.budget_draws.items():
        lines[f"with --raw-budget {budget}"] = shares(by_sampler)
    if found.too_small:
        lines[f"under {TOO_SMALL} images"] = _some(found.too_small)
    for split, names in found.absent.items():
        lines[f"not in {split}"] = _some(names)
    if found.duplicates is not None:
        lines |= _copies(found.duplicates)
    if found.near is not None and any(found.near.across.values()):
        lines["near copies"] = (
            f"WARNING: {found.near}: accuracy may be too good; where files or folders tell what "
            f"belongs together, convert with --group-by REGEX, as '{SERIES}' for numbered frames"
        )
    if found.epoch is not None:
        lines["an epoch here"] = str(found.epoch)
    for number, note in enumerate(found.notes, 1):
        lines[f"note {number}"] = note
    return lines


def _some(names: Collection[str]) -> str:
    more = f", ... ({len(names):,} classes)" if len(names) > NAMED else ""
    return ", ".join(islice(names, NAMED)) + more


def _copies(found: Duplicates) -> dict[str, str]:
    lines = {}
    if not any((*found.within.values(), *found.across.values())):
        return {"exact copies": "none, within splits or across them"}
    lines["exact copies"] = ", ".join(f"{n:,} within {split}" for split, n in found.within.items())
    leaks = [
        "{n:,} images of {1} are in {0} too".format(*pair.split(", "), n=n)
        for pair, n in found.across.items()
        if n
    ]
    if leaks:
        lines["leakage"] = "; ".join(leaks)
    if found.conflicting:
        lines["contradictions"] = f"{found.conflicting:,} groups of copies are of several classes"
    for number, group in enumerate(found.examples, 1):
        lines[f"copies {number}"] = " = ".join(
            f"{copy.split}: {copy.name} ({copy.class_name})" for copy in group
        )
    return lines
