"""`fasttail inspect --html`: an inspection as a page, with figures and pictures."""

from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fasttail.config import ShotsConfig
from fasttail.evaluate.shots import group_masks
from fasttail.report import svg
from fasttail.report.figures import Draw, draw_distribution, legend
from fasttail.report.inspect import EXPONENTS, Inspection, facts
from fasttail.report.page import Drawn, write_page
from fasttail.report.pictures import Picture, thumbnail
from fasttail.report.svg import Tips
from fasttail.shards import Shards, Split, tail

SHOWN = 4  # classes at each end
PICTURES = 6  # of each
STEPS = 200  # of a curve


def write(found: Inspection, opened: Shards, out: Path) -> None:
    """Writes the page, whole or not at all."""
    train = opened.split("train")
    by_size = np.argsort(-train.counts_C, kind="stable")
    ends = dict.fromkeys([*by_size[:SHOWN].tolist(), *by_size[-SHOWN:].tolist()])
    write_page(
        "inspect.html.j2",
        out,
        title=f"{found.name} ({opened.dir})",
        facts={k: v for k, v in facts(found).items() if not k.startswith("copies ")},
        plots=[_drawn(*plot, train) for plot in PLOTS if plot[2] is not sides or _differ(train)],
        classes=[(opened.class_names[c], int(train.counts_C[c]), _some(train, c)) for c in ends],
        copies=_copies(found, opened),
    )


def distribution(figure: Figure, train: Split) -> Tips:
    """Training images of every class, the largest first."""
    counts_C = np.asarray(train.counts_C)
    order_C = np.argsort(-counts_C, kind="stable")
    groups = group_masks(counts_C, ShotsConfig())
    return draw_distribution(
        figure.subplots(), counts_C[order_C], groups, order_C, train.class_names
    )


def sides(figure: Figure, train: Split) -> None:
    """How long the images' longer sides are."""
    axes = figure.subplots()
    sides_N = np.maximum(train.heights_N, train.widths_N)
    axes.hist(sides_N, bins=min(60, int(np.ptp(sides_N)) + 1), color=svg.MANY)
    axes.set_xlabel("longer side, pixels")
    axes.set_ylabel("training images")


def coverage(figure: Figure, train: Split) -> None:
    """Share of draws that falls on the images of the smallest classes, by how many are kept."""
    axes = figure.subplots()
    labels_N = np.asarray(train.labels_N)
    order_N = tail.order(labels_N)
    counts_N = np.asarray(train.counts_C)[labels_N[order_N]].astype(np.float64)
    images_N = np.arange(1, len(labels_N) + 1) / len(labels_N)
    some = np.unique(np.linspace(0, len(labels_N) - 1, STEPS).astype(int))
    for (name, q), colour in zip(EXPONENTS.items(), (svg.NCM, svg.CRT), strict=True):
        weight_N = counts_N ** (q - 1)
        share_N = np.cumsum(weight_N) / weight_N.sum()
        axes.plot(images_N[some], share_N[some], color=colour, label=f"sampler {name}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("images kept decoded")
    axes.set_ylabel("draws that need no decoding")
    legend(axes)


PLOTS = (
    (
        "How many images each class has",
        "Training images of every class, the largest first; the colours are the shot groups.",
        distribution,
    ),
    ("Image sizes", "Of the training images.", sides),
    (
        "What --raw-budget covers",
        "The images of the smallest classes are drawn most often; kept decoded, they are not "
        "decoded again.",
        coverage,
    ),
)


def _differ(train: Split) -> bool:
    return bool(np.ptp(np.maximum(train.heights_N, train.widths_N)))


def _drawn(title: str, about: str, draw: Draw, train: Split) -> Drawn:
    (picture,) = svg.render(draw, [train], [title])
    return Drawn(title, about, [("", Markup(picture))])  # made by ElementTree, which escapes


def _some(split: Split, c: int) -> list[Picture]:
    """Pictures of a class, spread over it."""
    ids = split.samples_N[split.indptr_C1[c] : split.indptr_C1[c + 1]]
    some = np.unique(np.linspace(0, len(ids) - 1, PICTURES).astype(int)) if len(ids) else []
    return [thumbnail(split, int(ids[k]), split.source_name(int(ids[k]))) for k in some]


def _copies(found: Inspection, opened: Shards) -> list[list[Picture]]:
    if found.duplicates is None:
        return []
    return [
        [
            thumbnail(
                opened.split(copy.split),
                copy.sample,
                f"{copy.split}: {copy.name} ({copy.class_name})",
            )
            for copy in group
        ]
        for group in found.duplicates.examples
    ]
