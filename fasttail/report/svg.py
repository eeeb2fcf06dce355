"""matplotlib's figures as SVG that belongs to the page it stands in.

Colours are the page's CSS variables, so a figure follows light and dark; text stays text, in the
page's font; a mark may have a tooltip (SVG's `<title>`), which needs no script.

Names that others chose (classes, runs) never go through matplotlib, whose text has a markup of its
own: they are put in here, as text nodes.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree
from zlib import crc32

from matplotlib import style
from matplotlib.figure import Figure

# What matplotlib is told to draw in, and the CSS variable it stands for.
INK, FAINT, GRID = "#010200", "#010201", "#010202"
MANY, MEDIUM, FEW = "#010210", "#010211", "#010212"
JOINT, CRT, LWS, TAU, NCM, LOGIT, BALANCED, OTHER = (f"#0102{n}" for n in range(20, 28))
_VARIABLES = {
    **{INK: "ink", FAINT: "faint", GRID: "grid", MANY: "many", MEDIUM: "medium", FEW: "few"},
    **{JOINT: "joint", CRT: "crt", LWS: "lws", TAU: "tau", NCM: "ncm"},
    **{LOGIT: "logit", BALANCED: "balanced", OTHER: "other"},
}

SIZE_IN = (4.6, 3.0)  # drawn as large as on a phone: on a wide page there are several in a row
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fasttail",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
}

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)

# gid of a line with markers, or of a patch -> what to say of each marker, or of the patch
Tips = Mapping[str, Sequence[str]]


def render(
    draw: Callable[[Figure, Any], Tips | None], what: Sequence[Any], titles: Sequence[str]
) -> list[str]:
    """One `<svg>` for each of `what`, drawn by `draw(figure, it)`, all with the same axes: they are
    to be compared. `titles` is what a screen reader says of each."""
    with style.context(["default", STYLE]):
        figures = [Figure(figsize=SIZE_IN, layout="constrained") for _ in what]
        tips = [draw(figure, it) or {} for figure, it in zip(figures, what, strict=True)]
        _share_axes(figures)
        return [_svg(f, t, title) for f, t, title in zip(figures, tips, titles, strict=True)]


def _share_axes(figures: Sequence[Figure]) -> None:
    if len({len(figure.axes) for figure in figures}) != 1:
        return
    for same in zip(*(figure.axes for figure in figures), strict=True):
        bottoms, tops = zip(*(axes.get_ylim() for axes in same), strict=True)
        for axes in same:
            axes.set_ylim(min(bottoms), max(tops))


def _svg(figure: Figure, tips: Tips, title: str) -> str:
    out = io.StringIO()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # it has done its work: drawing is quicker without it
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(out.getvalue())
    for element in list(root):
        if element.tag == f"{{{SVG}}}metadata":
            root.remove(element)
    by_id = {element.get("id"): element for element in root.iter() if element.get("id")}
    for gid, texts in tips.items():
        marks = list(by_id[gid].iter(f"{{{SVG}}}use")) or [by_id[gid]]
        for mark, text in zip(marks, texts, strict=True):
            ElementTree.SubElement(mark, f"{{{SVG}}}title").text = text
    _rename_ids(root, f"f{crc32((out.getvalue() + title).encode()):x}-")
    for name in ("width", "height"):
        root.attrib.pop(name)
    root.set("role", "img")
    root.set("aria-label", title)
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub("|".join(_VARIABLES), lambda m: f"var(--{_VARIABLES[m[0]]})", text)


def _rename_ids(root: ElementTree.Element, prefix: str) -> None:
    """Keeps the ids that something refers to, made this figure's own: a page has several."""
    referred = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == f"{{{XLINK}}}href" and value.startswith("#"):
                referred.add(value[1:])
                element.set(name, f"#{prefix}{value[1:]}")
            elif match := re.fullmatch(r"url\(#(.+)\)", value):
                referred.add(match[1])
                element.set(name, f"url(#{prefix}{match[1]})")
    for element in root.iter():
        if (own := element.attrib.pop("id", None)) in referred:
            element.set("id", f"{prefix}{own}")
