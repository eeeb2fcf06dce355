"""The picture in docs/plan.md: draws per image in an epoch under the four samplers.

    python tools/plot_draws.py --counts places_lt_train_counts.json --out docs/draws_per_image.png

`--counts` is a JSON list of training images per class. Every point is counted from the plan: an
epoch of `TrainEpoch`'s order is drawn, position by position, and each class's images are looked at.
"""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np

from fasttail.plan.orders import Epoch, QuotaOrder
from fasttail.plan.samplers import SAMPLERS

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

BATCH = 256
# Okabe and Ito's colours, which stay apart for the colour-blind; head to tail as drawn.
LOOKS = {
    "instance": ("instance-balanced (q = 1)", "#0072B2"),
    "sqrt": ("square-root (q = 1/2)", "#009E73"),
    "progressive": ("progressively-balanced, half-way (t = 1/2)", "#E69F00"),
    "class": ("class-balanced (q = 0)", "#D55E00"),
}


def table_of(counts_C: np.ndarray) -> Any:
    samples_N = np.arange(counts_C.sum())
    return SimpleNamespace(
        indptr_C1=np.concatenate([[0], np.cumsum(counts_C)]), samples_N=samples_N
    )


def draws_per_image(counts_C: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, least and most draws of an image of each class in one epoch, [C] each."""
    epoch = Epoch(0, 0, int(counts_C.sum()) // BATCH, BATCH)
    order = QuotaOrder(table_of(counts_C), SAMPLERS[name](counts_C, 0.5), epoch)
    ids_B, _ = order.draw(0, epoch.total)
    times_N = np.bincount(ids_B, minlength=counts_C.sum())
    starts_C = np.concatenate([[0], np.cumsum(counts_C)])[:-1]
    total_C = np.add.reduceat(times_N, starts_C)
    least_C, most_C = np.minimum.reduceat(times_N, starts_C), np.maximum.reduceat(times_N, starts_C)
    return total_C / counts_C, least_C, most_C


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Draws per image in an epoch under the four samplers."
    )
    parser.add_argument("--counts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    counts_C = np.sort(np.array(json.loads(args.counts.read_text())))[::-1]

    mpl.rcParams.update({"font.size": 10})
    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    rank_C = np.arange(1, len(counts_C) + 1)
    for name, (label, colour) in LOOKS.items():
        mean_C, least_C, most_C = draws_per_image(counts_C, name)
        assert (most_C - least_C <= 1).all()
        axes.fill_between(
            rank_C, least_C, most_C, step="mid", color=colour, alpha=0.22, linewidth=0
        )
        axes.plot(rank_C, mean_C, color=colour, linewidth=1.8, label=label)
    axes.set_yscale("symlog", linthresh=1.0, linscale=0.6)
    axes.set_ylim(0, None)
    axes.set_xlim(1, len(counts_C))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_yticks([0, 0.5, 1, 2, 5, 10, 20, 50])
    axes.set_xlabel(
        f"classes, from {counts_C[0]:,} training images down to {counts_C[-1]} "
        f"({counts_C.sum():,} in all)"
    )
    axes.set_ylabel("draws of an image in an epoch")
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    start = 0.5
    groups = {"many-shot (> 100)": 101, "medium-shot (20 to 100)": 20, "few-shot (< 20)": 1}
    for name, least in groups.items():
        end = int((counts_C >= least).sum()) + 0.5
        axes.axvline(end, color="0.6", linewidth=0.8, linestyle=":")
        above = axes.get_xaxis_transform()
        axes.text((start + end) / 2, 1.01, name, color="0.4", ha="center", transform=above)
        start = end
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.0, 1.0))
    figure.savefig(args.out, dpi=150, metadata={"Software": None})
    print(f"{args.out}: {args.out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
