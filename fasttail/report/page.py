"""The report of one or several runs: one HTML page that needs nothing beside it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import fasttail
from fasttail import atomic
from fasttail.console import COLUMNS
from fasttail.protocol import named, reported
from fasttail.report import figures, svg
from fasttail.report.collect import RunView
from fasttail.report.figures import Draw

SHOWN = {**COLUMNS, "ece": "ECE"}
LOWER_IS_BETTER = ("ece",)
COMPARED = {"all_micro": "Accuracy over images", "few": "Accuracy on few-shot classes"}


@dataclass(frozen=True)
class Plot:
    """A figure that a page has of each run: what it shows, and which runs have what it needs."""

    title: str
    about: str
    draw: Draw
    possible: Callable[[Any], bool]


@dataclass(frozen=True)
class Drawn:
    """A plot's pictures, a run each; None where a run lacks what it needs."""

    title: str
    about: str
    pictures: list[tuple[str, Markup | None]]


def _has_counts(view: RunView) -> bool:
    return bool(view.counts_C.size)


def _has_log(view: RunView) -> bool:
    return bool(view.log.epoch_T.size)


SECTIONS: dict[str, tuple[Plot, ...]] = {
    "Classes": (
        Plot(
            "How many images each class has",
            "Training images of every class, the largest first; the colours are the shot groups.",
            figures.distribution,
            _has_counts,
        ),
        Plot(
            "Accuracy by class",
            "From the class with most training images to the one with fewest. Of more than "
            f"{figures.FEW_CLASSES} classes, a mark is the mean of neighbours.",
            figures.accuracy_by_rank,
            lambda view: bool(view.accuracy),
        ),
    ),
    "Heads": (
        Plot(
            "Weight norms by class",
            "A joint classifier has longer weights for larger classes; balancing evens them out "
            "(figure 2 of the paper). Each head's norms are divided by their mean.",
            figures.weight_norms,
            lambda view: bool(view.norms),
        ),
        Plot(
            "Choosing tau",
            "Weights divided by their norm to the power tau: classes of many images lose what "
            "those of few gain. Only the split that tau was chosen on decided anything.",
            figures.tau_curve,
            lambda view: view.tau is not None,
        ),
        Plot(
            "Calibration",
            "Predictions by their confidence; on the diagonal, who is 80 % sure is right in 80 % "
            "of cases. ECE is the expected calibration error. NCM gives no probabilities.",
            figures.calibration,
            lambda view: bool(view.reliability),
        ),
    ),
    "Training": (
        Plot("Loss and learning rate", "Stage 1.", figures.loss, _has_log),
        Plot(
            "Accuracy on val",
            "Stage 1, at the end of an epoch.",
            figures.val_accuracy,
            lambda view: bool(view.log.val_epoch_V.size),
        ),
        Plot(
            "Throughput",
            "Images a second of the main process, and the share of its time spent waiting for "
            "data.",
            figures.throughput,
            _has_log,
        ),
    ),
}


def write_runs(views: Sequence[RunView], out: Path) -> None:
    """Writes the report of runs, whole or not at all."""
    names = [str(view.run.dir) for view in views]
    sections = {
        section: [drawn for plot in plots if (drawn := _drawn(plot, views, names))]
        for section, plots in SECTIONS.items()
    }
    rows = [
        {**row, "run": name, "of": (view.run.shards_digest, row["split"]), "best": set()}
        for name, view in zip(names, views, strict=True)
        for row in view.rows
    ]
    columns = {key: of for key, of in SHOWN.items() if any(key in row for row in rows)}
    _mark_best(rows, columns)
    title = names[0] if len(names) == 1 else f"{len(names)} runs"
    write_page(
        "run.html.j2",
        out,
        title=title,
        views=list(zip(names, views, strict=True)),
        facts=[_facts(view) for view in views],
        rows=_sorted(rows),
        matrices=_matrices(rows) if len(names) > 1 else {},
        columns=columns,
        sections=sections,
        settings=[_yaml(view) for view in views],
    )


def write_page(template: str, out: Path, **values: Any) -> None:
    """Fills a template of this package; whatever is put in is escaped.

    `UserError` if the page can't be written.
    """
    environment = Environment(
        loader=PackageLoader("fasttail.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(
        version=fasttail.__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **values,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic.whole_file(out) as file:
            # Names that are no UTF-8 came in as lone surrogates.
            file.write(text.encode("utf-8", "replace"))
    except OSError as error:
        raise atomic.explain(error, out.parent) from None


def _drawn(plot: Plot, views: Sequence[RunView], names: Sequence[str]) -> Drawn | None:
    """None if no run has what it needs."""
    able = [k for k, view in enumerate(views) if plot.possible(view)]
    if not able:
        return None
    drawn = svg.render(
        plot.draw, [views[k] for k in able], [f"{plot.title}: {names[k]}" for k in able]
    )
    pictures: dict[int, Markup] = {
        k: Markup(picture)  # made by ElementTree, which escapes
        for k, picture in zip(able, drawn, strict=True)
    }
    return Drawn(plot.title, plot.about, [(name, pictures.get(k)) for k, name in enumerate(names)])


def _facts(view: RunView) -> dict[str, str]:
    config = view.config
    facts = {"data set": view.run.dataset}
    if view.counts_C.size:
        counts_C = view.counts_C
        facts["training images"] = (
            f"{counts_C.sum():,} in {len(counts_C):,} classes of {counts_C.max():,} to "
            f"{counts_C.min():,}"
        )
        facts["shot groups"] = (
            f"many above {config.shots.many_above:,}, few below {config.shots.few_below:,} images"
        )
    facts |= {
        "backbone": config.model.backbone,
        "sampler": f"{config.sampler} in stage 1, {config.classify.sampler} in stage 2",
        "loss": config.loss.name,
        "protocol": config.protocol,
        "stage 1": f"{config.optim.epochs} epochs, {config.optim.batch_size} images a step",
        "seed": f"{config.seed}",
    }
    if view.log.epoch_T.size:
        speed = np.nanmedian(view.log.train["images_per_s"])
        waiting = np.nanmedian(view.log.train["waiting_share"])
        facts["speed"] = (
            f"{speed:,.0f} images/s, {waiting:.1%} of the time waiting for data (median)"
        )
        done = view.log.epoch_T[-1]
        if done < config.optim.epochs - 0.01:
            facts["so far"] = f"{done:.1f} of {config.optim.epochs} epochs"
    return facts


def _sorted(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last split first, which is test where there is one; then as they came."""
    splits = list(dict.fromkeys(row["split"] for row in rows))[::-1]
    return sorted(rows, key=lambda row: splits.index(row["split"]))


def _mark_best(rows: Sequence[dict[str, Any]], columns: Iterable[str]) -> None:
    """Puts into "best" of each row the columns in which no row of the same images is better."""
    for images in {row["of"] for row in rows}:
        for column in columns:
            of_split = [row for row in rows if row["of"] == images and row.get(column) is not None]
            pick = min if column in LOWER_IS_BETTER else max
            best = pick((row[column] for row in of_split), default=None)
            for row in of_split:
                if row[column] == best and len(of_split) > 1:
                    row["best"].add(column)


def _matrices(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Of the split that is reported: title -> head -> run -> {"value", "best"}."""
    split = reported(row["split"] for row in rows)
    found: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for column, title in COMPARED.items():
        heads = found.setdefault(f"{title}, {split}", {})
        for row in rows:
            if row["split"] == split and row.get(column) is not None:
                cell = {"value": row[column], "best": column in row["best"]}
                heads.setdefault(named(row["method"], row["protocol"]), {})[row["run"]] = cell
    return {title: heads for title, heads in found.items() if heads}


def _yaml(view: RunView) -> str:
    return yaml.safe_dump(view.config.model_dump(mode="json"), sort_keys=False)
