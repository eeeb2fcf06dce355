"""The matrix as a picture in the manner of the paper's Figure 2: heads along x, a colour for each
sampler (or backbone, of one sampler), a panel each for many-, medium-, few-shot and all classes."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fasttail.atomic import whole_path
from fasttail.study.asked import Study
from fasttail.study.matrix import Cell, finite, seeds_of

PANELS = ("many", "medium", "few", "all")
NAMES = {
    "joint": "Joint",
    "linear": "linear",
    "crt": "cRT",
    "lws": "LWS",
    "tau": "τ-norm",
    "ncm": "NCM",
    "logit-adjust": "logit adj.",
    "balanced-softmax": "bal. softmax",
    "crt-last-block": "cRT + block",
}
# Okabe and Ito's colours, which are told apart with any kind of colour vision; and shapes besides.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SPREAD = 0.4  # of the room between two heads is shared by the samplers' marks
PANEL_INCHES = 2.9  # high
HEAD_INCHES = 0.5


def save(study: Study, cells: Sequence[Cell]) -> None:
    """matrix.png and matrix.svg of the last split: test, where there is one."""
    figure = draw(study, [cell for cell in cells if cell.split == study.splits[-1]])
    # Without these two the same numbers would make another file each time.
    with mpl.rc_context({"svg.hashsalt": "fasttail"}):
        for kind, metadata in (("png", {}), ("svg", {"Date": None})):
            with whole_path(study.dir / f"matrix.{kind}") as temporary:
                figure.savefig(temporary, format=kind, dpi=160, metadata=metadata)


def draw(study: Study, cells: Sequence[Cell]) -> Figure:
    """A row of panels for each backbone with a colour for each sampler; of one sampler, one row
    with a colour for each backbone. Error bars are the standard deviation over seeds."""
    of_backbones = len(study.samplers) == 1 < len(study.backbones)
    colours = study.backbones if of_backbones else study.samplers
    row_names = study.samplers if of_backbones else study.backbones
    rows, columns = len(row_names), len(PANELS)
    width = max(5, 1 + len(study.methods)) * HEAD_INCHES + 0.7
    figure = Figure(figsize=(width * columns, PANEL_INCHES * rows + 0.9), layout="constrained")
    axes_RP = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes_P, name in zip(axes_RP, row_names, strict=True):
        shown = [cell for cell in cells if name in (cell.backbone, cell.sampler)]
        marks = {
            (cell.backbone if of_backbones else cell.sampler, cell.method): cell for cell in shown
        }
        for axes, panel in zip(axes_P, PANELS, strict=True):
            _panel(axes, ("joint", *study.methods), colours, marks, panel)
        axes_P[0].set_ylabel(f"{name}\naccuracy on {cells[0].split}, %")
    shots = study.config.shots
    meant = {"many": f"> {shots.many_above} images", "few": f"< {shots.few_below} images"}
    for axes, panel in zip(axes_RP[0], PANELS, strict=True):
        axes.set_title(f"{panel} ({meant[panel]})" if panel in meant else panel)
    handles, labels = axes_RP[0][0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title="backbone" if of_backbones else "representation learned by the sampler",
        loc="outside lower center",
        ncols=len(colours),
        frameon=False,
    )
    figure.suptitle(
        f"{study.shards.name}: accuracy on {cells[0].split} ({cells[0].images:,} images), "
        f"{seeds_of(cells)}"
    )
    return figure


def _panel(
    axes: Axes,
    methods: Sequence[str],
    colours: Sequence[str],
    marks: Mapping[tuple[str, str], Cell],
    panel: str,
) -> None:
    """The marks of (a colour's name, method)."""
    step = SPREAD / max(len(colours) - 1, 1)
    for s, name in enumerate(colours):
        there = [m for m, method in enumerate(methods) if (name, method) in marks]
        shown = [marks[name, methods[m]] for m in there]
        axes.errorbar(
            [m + (s - (len(colours) - 1) / 2) * step for m in there],
            [finite(cell.mean[panel]) for cell in shown],
            yerr=[finite(cell.sd[panel] or 0.0) for cell in shown],
            color=COLOURS[s % len(COLOURS)],
            marker=MARKERS[s % len(MARKERS)],
            markersize=6,
            linestyle=":",  # heads have no order: the line only keeps a colour's marks together
            linewidth=1,
            alpha=0.9,
            capsize=2,
            label=name,
        )
    names = [NAMES.get(method, method) for method in methods]
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if len(methods) > 5 else {}
    axes.set_xticks(range(len(methods)), names, **turned)
    axes.set_xlim(-0.6, len(methods) - 0.4)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -2), min(high, 102))  # error bars may leave what accuracies can be
    axes.grid(axis="y", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if all(cell.mean[panel] is None for cell in marks.values()):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no such class", ha="center", transform=axes.transAxes)
