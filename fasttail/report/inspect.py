"""`fasttail inspect`: what is in shards, as a training will meet it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fasttail import shards
from fasttail.config import ShotsConfig
from fasttail.console import Reporter
from fasttail.evaluate.shots import group_masks
from fasttail.shards import Shards, tailraw

EXPONENTS = {"class": 0.0, "sqrt": 0.5}
BUDGETS = ("5%", "10%", "30%")


@dataclass(frozen=True)
class Inspection:
    """What `inspect` says. Sizes in pixels and bytes; shares in 0..1.

    `shot_groups` gives classes and training images of each group. `raw_draws` is the share of
    draws, by sampler, that falls on images stored as pixels; `raw_budget_draws` what it would
    be if so many percent of the images were.
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
    train_bytes: int
    stored: dict[str, dict[str, int]]
    raw_draws: dict[str, float]
    raw_budget_draws: dict[str, dict[str, float]]
    notes: tuple[str, ...]


def inspect(opened: Shards) -> Inspection:
    """Looks at the class-index table; no image is read."""
    split = opened.split("train")
    counts_C = split.counts_C
    labels_N = np.asarray(split.labels_N)
    heights_N, widths_N = np.asarray(split.heights_N), np.asarray(split.widths_N)
    by_size = np.argsort(-counts_C, kind="stable")
    groups = group_masks(counts_C, ShotsConfig())

    def draws(raw_N: np.ndarray) -> dict[str, float]:
        return {name: tailraw.share_of_draws(labels_N, raw_N, q) for name, q in EXPONENTS.items()}

    def named(classes: np.ndarray) -> dict[str, int]:
        return {opened.class_names[c]: int(counts_C[c]) for c in classes}

    order_N = tailraw.order(labels_N)
    budget_draws = {}
    for budget in BUDGETS:
        raw_N = np.zeros(len(split), bool)
        raw_N[order_N[: int(len(split) * float(budget.rstrip("%")) / 100)]] = True
        budget_draws[budget] = draws(raw_N)
    largest = int(np.argmax(heights_N.astype(np.int64) * widths_N))
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
        train_bytes=int(np.asarray(split.sizes_N).sum()),
        stored=opened.meta.kinds,
        raw_draws=draws(np.asarray(split.modes_N) == 1),
        raw_budget_draws=budget_draws,
        notes=opened.meta.notes,
    )


def show(folder: Path, *, as_json: bool) -> None:
    """Prints an inspection as text, or as one JSON object."""
    found = inspect(shards.open(folder))
    reporter = Reporter()
    if as_json:
        reporter.json(asdict(found))
    else:
        reporter.facts(_facts(found), f"{found.name} ({folder})")


def _facts(found: Inspection) -> dict[str, str]:
    def classes(counts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in counts.items())

    def shares(by_sampler: dict[str, float]) -> str:
        return ", ".join(f"{sampler} {share:.1%}" for sampler, share in by_sampler.items())

    def groups(by_group: dict[str, dict[str, int]]) -> str:
        return "; ".join(
            f"{group} {of['classes']:,} classes, {of['images']:,} images"
            for group, of in by_group.items()
        )

    facts: dict[str, Any] = {
        "images": ", ".join(f"{name} {count:,}" for name, count in found.images.items()),
        "classes": f"{found.classes:,}, imbalance factor {found.imbalance_factor:g}",
        "largest": classes(found.largest),
        "smallest": classes(found.smallest),
        "shot groups": groups(found.shot_groups),
        "image size": "median {} x {}, largest {} x {} (height x width)".format(
            *found.median_hw, *found.largest_hw
        ),
        "train": f"{found.train_bytes / 2**20:,.1f} MiB in {found.container}",
        "stored": "; ".join(
            f"{split}: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
            for split, kinds in found.stored.items()
        ),
        "draws from raw images": shares(found.raw_draws),
    }
    for budget, by_sampler in found.raw_budget_draws.items():
        facts[f"with --raw-budget {budget}"] = shares(by_sampler)
    for number, note in enumerate(found.notes, 1):
        facts[f"note {number}"] = note
    return facts
