"""The figures of a report, each drawn for one run: `draw(figure, view)` returns its tooltips."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from fasttail.evaluate.shots import GROUPS
from fasttail.report import svg
from fasttail.report.collect import RunView
from fasttail.report.svg import Tips

FEW_CLASSES = 40  # up to so many, each is a mark of its own; of more, neighbours are averaged
MOST_MARKS = 25
GROUP_COLOURS = {"many": svg.MANY, "medium": svg.MEDIUM, "few": svg.FEW}
TAU_COLOURS = {**GROUP_COLOURS, "all_macro": svg.TAU}
HEAD_STYLES = {  # colour, marker
    "joint": (svg.JOINT, "o"),
    "linear": (svg.JOINT, "o"),
    "crt": (svg.CRT, "s"),
    "lws": (svg.LWS, "^"),
    "tau": (svg.TAU, "D"),
    "ncm": (svg.NCM, "v"),
    "logit-adjust": (svg.LOGIT, "P"),
    "balanced-softmax": (svg.BALANCED, "X"),
    "crt-last-block": (svg.CRT, "*"),
}
OTHER_STYLE = (svg.OTHER, ".")


def distribution(figure: Figure, view: RunView) -> Tips:
    """Training images of every class, the largest first, on a log axis."""
    return draw_distribution(
        figure.subplots(), view.counts_C[view.order_C], view.groups, view.order_C, _names(view)
    )


def draw_distribution(
    axes: Axes,
    sorted_C: np.ndarray,
    groups: dict[str, np.ndarray],
    order_C: np.ndarray,
    names: tuple[str, ...],
) -> Tips:
    tips: dict[str, list[str]] = {}
    rank_C = np.arange(1, len(sorted_C) + 1)
    for group, colour in GROUP_COLOURS.items():
        members_C = groups[group][order_C]
        if not members_C.any():
            continue
        ranks, counts = rank_C[members_C], sorted_C[members_C]
        label = f"{group}: {len(ranks):,} classes, {counts.sum():,} images"
        if len(sorted_C) <= FEW_CLASSES:
            bars = axes.bar(ranks, counts, 0.8, color=colour, label=label)
            for bar, rank, count in zip(bars, ranks, counts, strict=True):
                bar.set_gid(f"bar-{rank}")
                tips[f"bar-{rank}"] = [f"{names[order_C[rank - 1]]}: {count:,} images"]
        else:
            edges, heights = _staircase(ranks, counts)
            axes.stairs(heights, edges, fill=True, color=colour, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(bottom=0.7)
    axes.set_xlim(0.4, len(sorted_C) + 0.6)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("classes, the largest first")
    axes.set_ylabel("training images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, 1)
    return tips


def accuracy_by_rank(figure: Figure, view: RunView) -> Tips:
    """Accuracy of every head over classes from the largest to the smallest."""
    axes = figure.subplots()
    tips: dict[str, list[str]] = {}
    for method, accuracy_C in view.accuracy.items():
        rank_P, mean_P, says_P = _by_rank(accuracy_C[view.order_C], view, "{:.1f} %")
        _line(axes, rank_P, mean_P, method)
        tips[method] = [f"{method}, {says}" for says in says_P]
    _shade_groups(axes, view)
    axes.set_ylim(-2, 110)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel(f"accuracy on {view.split}, %")
    legend(axes)
    return tips


def weight_norms(figure: Figure, view: RunView) -> Tips:
    """How long each class's weights are, relative to the head's mean (figure 2 of the paper)."""
    axes = figure.subplots()
    tips: dict[str, list[str]] = {}
    for method, norms_C in view.norms.items():
        relative_C = (norms_C / norms_C.mean())[view.order_C]
        rank_P, mean_P, says_P = _by_rank(relative_C, view, "{:.2f} of the mean norm")
        _line(axes, rank_P, mean_P, method)
        tips[method] = [f"{method}, {says}" for says in says_P]
    axes.set_ylim(bottom=0)
    axes.margins(y=0.15)
    _shade_groups(axes, view)
    axes.set_ylabel("norm of weights / mean norm")
    legend(axes)
    return tips


def tau_curve(figure: Figure, view: RunView) -> Tips:
    """Many-, medium-, few-shot and all classes over tau, and the value that was taken."""
    axes = figure.subplots()
    curve = view.tau
    assert curve is not None, "Plot.possible"
    found, tips = curve.sweep, {}
    reported = view.split if view.split in found.accuracy_T else next(iter(found.accuracy_T))
    lines = [(reported, group) for group in TAU_COLOURS]
    if curve.chosen_on in found.accuracy_T and curve.chosen_on != reported:
        lines.append((curve.chosen_on, "all_macro"))
    for k, (split, group) in enumerate(lines):
        accuracy_T, name = found.accuracy_T[split][group], group.removesuffix("_macro")
        if np.isnan(accuracy_T).all():
            continue
        axes.plot(
            found.grid_T,
            accuracy_T,
            color=TAU_COLOURS[group],
            marker="D" if group == "all_macro" else "o",
            gid=f"tau-{k}",
            linestyle="-" if split == reported else "--",
            label=name if split == reported else f"{name}, on {split}",
        )
        tips[f"tau-{k}"] = [
            f"tau {t:.4g}: {name} {accuracy:.1f} % on {split}"
            for t, accuracy in zip(found.grid_T, accuracy_T, strict=True)
        ]
    axes.axvline(found.chosen, color=svg.INK, linewidth=1, linestyle=":")
    how = f"chosen on {curve.chosen_on}" if curve.chosen_on else "fixed"
    left = found.chosen > found.grid_T.mean()
    axes.annotate(
        f"tau {found.chosen:.3g}, {how}",
        (found.chosen, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if left else 4, -3),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
    )
    axes.margins(y=0.2)
    axes.set_xlabel("tau")
    axes.set_ylabel(f"accuracy on {reported}, %")
    legend(axes)
    return tips


def calibration(figure: Figure, view: RunView) -> Tips:
    """How often predictions are right, by how sure they are."""
    axes = figure.subplots()
    tips: dict[str, list[str]] = {}
    axes.plot([0, 100], [0, 100], color=svg.FAINT, linewidth=1)
    for method, of in view.reliability.items():
        _line(axes, of.confidence_K, of.accuracy_K, method, f"{method}, ECE {of.ece:.1f} %")
        tips[method] = [
            f"{method}: {n:,} images, {sure:.0f} % sure, {right:.0f} % right"
            for n, sure, right in zip(of.count_K, of.confidence_K, of.accuracy_K, strict=True)
        ]
    axes.set_xlim(0, 101)
    axes.set_ylim(-2, 103)
    axes.set_xlabel("confidence, %")
    axes.set_ylabel(f"accuracy on {view.split}, %")
    legend(axes, 2)
    return tips


def loss(figure: Figure, view: RunView) -> None:
    """Loss, and the learning rate below."""
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _curve(top, view, "loss", "training loss", svg.CRT)
    _curve(bottom, view, "lr", "learning rate", svg.TAU)
    bottom.set_xlabel("epochs")


def val_accuracy(figure: Figure, view: RunView) -> Tips:
    """Accuracy on val, as the training went."""
    axes = figure.subplots()
    tips: dict[str, list[str]] = {}
    named = {"all_micro": ("over images", svg.CRT), "all_macro": ("over classes", svg.NCM)}
    for name, (label, colour) in named.items():
        accuracy_V = view.log.val[name]
        marker = "o" if len(accuracy_V) <= FEW_CLASSES else ""
        gid = f"val-{name}"
        axes.plot(
            view.log.val_epoch_V, accuracy_V, color=colour, label=label, marker=marker, gid=gid
        )
        if marker:
            tips[gid] = [
                f"epoch {epoch}: {accuracy:.1f} % {label}"
                for epoch, accuracy in zip(view.log.val_epoch_V, accuracy_V, strict=True)
            ]
    axes.set_xlabel("epochs")
    axes.set_ylabel("accuracy on val, %")
    legend(axes)
    return tips


def throughput(figure: Figure, view: RunView) -> None:
    """Images a second, and the share of the time that was spent waiting for them."""
    top, bottom = figure.subplots(2, 1, sharex=True)
    _curve(top, view, "images_per_s", "images/s", svg.LWS)
    _curve(bottom, view, "waiting_share", "waiting, %", svg.TAU, 100)
    top.set_ylim(bottom=0)
    bottom.set_ylim(0, max(5.0, bottom.get_ylim()[1]))
    bottom.set_xlabel("epochs")


def _curve(axes: Axes, view: RunView, name: str, label: str, colour: str, by: float = 1) -> None:
    axes.plot(view.log.epoch_T, by * view.log.train[name], color=colour)
    axes.set_ylabel(label)


def legend(axes: Axes, columns: int = 5) -> None:
    """Above the axes, where it hides nothing."""
    axes.figure.legend(loc="outside upper left", ncols=columns, handlelength=1.6, columnspacing=1.2)


def _line(axes: Axes, x_P: np.ndarray, y_P: np.ndarray, method: str, label: str = "") -> None:
    colour, marker = HEAD_STYLES.get(method.removesuffix("-official"), OTHER_STYLE)
    there_P = np.isfinite(y_P)
    axes.plot(
        x_P[there_P],
        y_P[there_P],
        color=colour,
        marker=marker,
        linestyle=":" if method.endswith("-official") else "-",
        label=label or method,
        gid=method,
        alpha=0.9,
    )


def _by_rank(
    value_C: np.ndarray, view: RunView, form: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Classes' values by rank: (ranks, values, what to say of each), of many classes means over
    neighbours; classes without a value are left out."""
    names = _names(view)
    if len(value_C) <= FEW_CLASSES:
        parts = [np.array([k]) for k in range(len(value_C))]
    else:
        parts = np.array_split(np.arange(len(value_C)), MOST_MARKS)
    rank, mean, says = [], [], []
    for part in parts:
        there = part[np.isfinite(value_C[part])]
        if not len(there):
            continue
        rank.append(part.mean() + 1)
        mean.append(value_C[there].mean())
        who = f"classes {part[0] + 1:,} to {part[-1] + 1:,}"
        if len(part) == 1:
            c = view.order_C[part[0]]
            who = f"{names[c]} ({view.counts_C[c]:,} training images)"
        says.append(f"{who}: {form.format(mean[-1])}")
    return np.array(rank), np.array(mean), says


def _shade_groups(axes: Axes, view: RunView) -> None:
    """Where the shot groups lie along the classes, largest first."""
    for group in GROUPS:
        ranks = np.flatnonzero(view.groups[group][view.order_C]) + 1
        if not len(ranks):
            continue
        low, high = ranks[0] - 0.5, ranks[-1] + 0.5
        axes.axvspan(low, high, color=GROUP_COLOURS[group], alpha=0.13, linewidth=0)
        axes.annotate(
            group,
            ((low + high) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, -3),
            textcoords="offset points",
            ha="center",
            va="top",
            size="small",
        )
    axes.set_xlim(0.5, len(view.order_C) + 0.5)
    axes.set_xlabel("classes, the largest first")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _staircase(ranks: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps with equal neighbours made one: edges [S + 1] and heights [S]."""
    starts = np.flatnonzero(np.r_[True, np.diff(counts) != 0])
    return np.r_[ranks[starts], ranks[-1] + 1] - 0.5, counts[starts]


def _names(view: RunView) -> tuple[str, ...]:
    return view.run.class_names


Draw = Callable[[Figure, Any], Tips | None]
