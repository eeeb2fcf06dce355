"""The matrix: sampler x head, accuracy on many-, medium-, few-shot and all classes; over seeds the
mean and the sample standard deviation. All numbers are read from the runs' metrics.json."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fasttail import rundir
from fasttail.atomic import whole_path
from fasttail.study.asked import RunPlan, Study, read

# Column -> key in metrics.json
COLUMNS = {
    "many": "many",
    "medium": "medium",
    "few": "few",
    "all": "all_micro",
    "macro": "all_macro",
}


@dataclass(frozen=True)
class Cell:
    """One head on the representations of one sampler, on one split, over some seeds.

    `mean` and `sd` are in percent, by column; None for a shot group without classes, and for the
    deviation of a single seed. `notes` are the rows' own, e.g. each seed's tau.
    """

    backbone: str
    sampler: str
    method: str
    split: str
    images: int
    seeds: tuple[int, ...]
    mean: dict[str, float | None]
    sd: dict[str, float | None]
    notes: tuple[str, ...]

    def text(self, column: str) -> str:
        """`72.5 ± 0.3`, a single seed's `72.5`, or `-`."""
        mean, sd = self.mean[column], self.sd[column]
        if mean is None:
            return "-"
        return f"{mean:.1f}" if sd is None else f"{mean:.1f} ± {sd:.1f}"


def matrix(study: Study) -> list[Cell]:
    """Every cell that some finished run has numbers for, in the order of what was asked."""
    rows = {run: _rows(run, study.config.protocol) for run in study.runs}
    return [
        cell
        for backbone in study.backbones
        for split in study.splits
        for sampler in study.samplers
        for method in ("joint", *study.methods)
        for cell in _cell(backbone, sampler, method, split, rows)
    ]


def _rows(run: RunPlan, protocol: str) -> list[dict[str, Any]]:
    if not (run.dir / "run.json").exists():
        return []
    return [row for row in rundir.open_run(run.dir).rows() if row["protocol"] == protocol]


def _cell(
    backbone: str,
    sampler: str,
    method: str,
    split: str,
    rows: dict[RunPlan, list[dict[str, Any]]],
) -> Iterator[Cell]:
    found = {
        run.seed: row
        for run, of_run in rows.items()
        if (run.backbone, run.sampler) == (backbone, sampler)
        for row in of_run
        if (row["method"], row["split"]) == (method, split)
    }
    if not found:
        return
    values = {name: [row[key] for row in found.values()] for name, key in COLUMNS.items()}
    yield Cell(
        backbone,
        sampler,
        method,
        split,
        images=next(iter(found.values()))["images"],
        seeds=tuple(found),
        mean={name: None if None in of else statistics.fmean(of) for name, of in values.items()},
        sd={
            name: None if None in of or len(of) < 2 else statistics.stdev(of)
            for name, of in values.items()
        },
        notes=tuple(dict.fromkeys(row["note"] for row in found.values() if row["note"])),
    )


def write(study: Study, cells: Sequence[Cell]) -> None:
    """study.json's `matrix`, matrix.csv and matrix.md, each whole."""
    about = read(study.path)
    rundir.write_json(study.path, {**about, "matrix": [asdict(cell) for cell in cells]})
    for name, text in (("matrix.csv", _csv(study, cells)), ("matrix.md", markdown(study, cells))):
        with whole_path(study.dir / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _csv(study: Study, cells: Iterable[Cell]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    numbers = [f"{name}{end}" for name in COLUMNS for end in ("", "_sd")]
    keys = ("dataset", "backbone", "split", "images", "sampler", "method", "seeds")
    writer.writerow([*keys, *numbers, "notes"])
    for cell in cells:
        values = [value for name in COLUMNS for value in (cell.mean[name], cell.sd[name])]
        writer.writerow(
            [
                study.shards.name,
                cell.backbone,
                cell.split,
                cell.images,
                cell.sampler,
                cell.method,
                len(cell.seeds),
                *("" if value is None else f"{value:.6g}" for value in values),
                "; ".join(cell.notes),
            ]
        )
    return out.getvalue()


def markdown(study: Study, cells: Sequence[Cell]) -> str:
    """One table for each backbone and split."""
    lines = [f"# {study.shards.name}: sampler x head", "", _conditions(study), ""]
    for title, group in tables(study, cells):
        lines += [f"## {title}", ""]
        lines.append(f"| sampler | head | {' | '.join(COLUMNS)} |")
        lines.append(f"| --- | --- |{' ---: |' * len(COLUMNS)}")
        for cell in group:
            texts = " | ".join(cell.text(name) for name in COLUMNS)
            lines.append(f"| {cell.sampler} | {cell.method} | {texts} |")
        notes = [
            f"{cell.sampler}, {cell.method}: {'; '.join(cell.notes)}"
            for cell in group
            if cell.notes
        ]
        lines += ["", *(f"- {note}" for note in notes), ""]
    return "\n".join(lines).rstrip() + "\n"


def tables(study: Study, cells: Sequence[Cell]) -> Iterator[tuple[str, list[Cell]]]:
    """(title, cells) of every backbone and split there are numbers for."""
    for backbone in study.backbones:
        for split in study.splits:
            group = [cell for cell in cells if (cell.backbone, cell.split) == (backbone, split)]
            if group:
                images = group[0].images
                yield (
                    f"{backbone}: accuracy in % on {split} ({images:,} images), {seeds_of(group)}",
                    group,
                )


def seeds_of(cells: Sequence[Cell]) -> str:
    """`1 seed`, `mean ± standard deviation over 3 seeds`; a range while a study is under way."""
    counts = {len(cell.seeds) for cell in cells}
    fewest, most = min(counts), max(counts)
    if most == 1:
        return "1 seed"
    number = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"mean ± standard deviation over {number} seeds"


def _conditions(study: Study) -> str:
    config, counts_C = study.config, study.shards.split("train").counts_C
    many, few = config.shots.many_above, config.shots.few_below
    return (
        f"{counts_C.sum():,} training images in {len(counts_C):,} classes ({counts_C.max():,} to "
        f"{counts_C.min():,}); stage 1 of {config.optim.epochs} epochs, protocol "
        f"{config.protocol}; many: more than {many} training images, few: less than {few}. "
        "all: over images; macro: mean over classes."
    )


def finite(value: float | None) -> float:
    """For drawing: not a number where there is none."""
    return math.nan if value is None else value
