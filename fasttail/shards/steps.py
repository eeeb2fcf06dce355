"""What `fasttail convert` and its steps do around the work: places, progress, words."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from fasttail import datasets
from fasttail.config import ConvertConfig
from fasttail.console import remarks
from fasttail.datasets.base import Index
from fasttail.errors import UserError
from fasttail.shards import manifest
from fasttail.shards.command import (
    bar,
    config_from,
    data_root,
    say_json,
    say_shards,
    shards_root,
    stopped_politely,
)
from fasttail.shards.convert import (
    LOCAL,
    assist,
    check_executor,
    finish,
    lead,
    make_parts,
    plan,
)
from fasttail.shards.ranks import Ranks
from fasttail.shards.reader import open as open_shards
from fasttail.shards.workdir import WorkDir

CLASSES_SHOWN = 6


def run(
    name: str | None,
    source: Path | None,
    out: Path | None,
    options: dict[str, Any],
    *,
    on: str = LOCAL,
    plan: bool = False,
    task: str | None = None,
    merge: bool = False,
    as_json: bool = False,
) -> None:
    """`fasttail convert`, or the step of it that is asked for. `options` are those of
    `ConvertConfig` that were given."""
    if plan + (task is not None) + merge > 1:
        raise UserError("--plan, --task and --merge are three steps: give one of them")
    if task is not None or merge:
        step = f"--task {task}" if task is not None else "--merge"
        work, jobs = _planned(step, name, source, out, options), options["jobs"]
        if task is not None:
            run_task(work, task, jobs)
        else:
            run_merge(work, as_json=as_json)
        return
    if name is None:
        raise UserError(f"which data set? --dataset one of {', '.join(datasets.names())}")
    datasets.check_name(name)
    if source is None and (data_root() / name).exists():
        source = data_root() / name
    cfg = config_from(options)
    if plan:
        run_plan(name, source, out, cfg)
    else:
        run_convert(name, source, out, cfg, on, as_json=as_json)


def _origin(name: str | None, source: Path | None) -> str:
    """What a source is, in the words of the command line."""
    return f"--dataset {name}" + (f" --source {source.absolute()}" if source is not None else "")


def _planned(
    step: str, name: str | None, source: Path | None, out: Path | None, options: Mapping[str, Any]
) -> WorkDir:
    """Where the manifest is. Raises `UserError` if it is not of what was given besides."""
    if out is None:
        raise UserError(f"{step} needs --out: the folder that --plan has written to")
    given = [key for key, value in options.items() if value not in (None, False) and key != "jobs"]
    if given:
        raise UserError(
            f"{step} goes by the manifest in {out}: give --{given[0].replace('_', '-')} to --plan"
        )
    work = WorkDir(out)
    if (name is None and source is None) or work.is_finished:
        return work
    planned, given_now = manifest.read(work).origin, _origin(name, source)
    if planned != given_now:
        raise UserError(
            f"{out} has the manifest of {planned}, not of {given_now}: leave these out, or run "
            "fasttail convert --plan again"
        )
    return work


def run_convert(
    name: str, source: Path | None, out: Path | None, cfg: ConvertConfig, on: str, *, as_json: bool
) -> None:
    """`fasttail convert` as a whole."""
    check_executor(on)
    console, ranks = remarks(), Ranks()
    with stopped_politely():
        if not ranks.is_main:
            assist(ranks)
            return
        with ranks.leading():
            index = _look(name, source, cfg, console)
            with bar(console) as progress:
                out = out or shards_root() / index.name
                shards = lead(ranks, index, out, cfg, progress, on)
    say_shards(console, shards)
    if as_json:
        say_json(shards)


def _look(name: str, source: Path | None, cfg: ConvertConfig, console: Console) -> Index:
    """The data set, and what it was taken for on the screen."""
    if console.is_terminal:
        console.print(f"{name}: looking for images" + (f" in {source}" if source else ""))
    index = datasets.index(name, source, cfg)
    if len(index.class_names) == 1:
        raise UserError(
            f"{index.name}: all images are of one class, {index.class_names[0]!r}: is "
            f"--source {source} a folder too high? the folders in it are the classes"
        )
    console.print(_found(index), markup=False)
    return index


def run_plan(name: str, source: Path | None, out: Path | None, cfg: ConvertConfig) -> None:
    """`fasttail convert --plan`."""
    console = remarks()
    with stopped_politely():
        index = _look(name, source, cfg, console)
        out = out or shards_root() / index.name
        about = plan(index, out, cfg, _origin(name, source))
    if about is None:
        console.print(f"{out} is ready: nothing is to be made", markup=False)
        return
    last = len(about.parts) - 1
    console.print(
        f"{out}: {last + 1:,} parts are to be made, by any process in any order: "
        f"fasttail convert --task 0 --out {out}"
        + (f", ... --task {last}" if last else "")
        + f"; then fasttail convert --merge --out {out}",
        markup=False,
    )


def run_task(work: WorkDir, numbers: str, jobs: int | None) -> None:
    """`fasttail convert --task`: `numbers` is I, or I/N for parts I, I + N, I + 2 N, ..."""
    out, console = work.out, remarks()
    found = re.fullmatch(r"(\d{1,9})(?:/(\d{1,9}))?", numbers, re.ASCII)
    if found is None or (found[2] is not None and not int(found[1]) < int(found[2])):
        raise UserError(f"--task {numbers}: give a part's number I, or I/N with I below N")
    if work.is_finished:
        console.print(f"{out} is ready: nothing is to be made", markup=False)
        return
    about = manifest.read(work)
    first, step = int(found[1]), int(found[2] or len(about.parts))
    if found[2] is None and first >= len(about.parts):
        raise UserError(f"--task {numbers}: {out} has parts 0 to {len(about.parts) - 1}")
    parts = about.parts[first::step]
    total, done = sum(part.images for part in parts), 0
    with stopped_politely(), bar(console) as progress:

        def advance(split: str, images: int) -> None:
            nonlocal done
            done += images
            if progress is not None:
                progress(split, done, total)

        make_parts(work, about, parts, jobs or manifest.jobs_for(about.cfg), advance)


def run_merge(work: WorkDir, *, as_json: bool) -> None:
    """`fasttail convert --merge`."""
    console = remarks()
    with stopped_politely(), bar(console) as progress:
        if not work.is_finished:
            shards = finish(work, manifest.read(work), progress)
        else:
            shards = open_shards(work.out)
    say_shards(console, shards)
    if as_json:
        say_json(shards)


def _found(index: Index) -> str:
    """What the source was taken for, said before hours are spent on it."""
    names, counts_C = index.class_names, index.counts("train")
    largest, smallest = int(np.argmax(counts_C)), int(np.argmin(counts_C))
    images = ", ".join(
        f"{len(split.labels_N):,} images in {name}" for name, split in index.splits.items()
    )
    lines = [
        f"{index.name}: {len(names):,} classes ({_some(names)}), {images}",
        f"  largest class: {names[largest]} ({counts_C[largest]:,} images in train); smallest: "
        f"{names[smallest]} ({counts_C[smallest]:,})",
    ]
    for split in index.splits:
        lacking = [names[c] for c in np.flatnonzero(index.counts(split) == 0)]
        if lacking:
            lines.append(f"  {split} has no image of {len(lacking):,} classes: {_some(lacking)}")
    return "\n".join((*lines, *(f"  {note}" for note in index.notes if "WARNING" in note)))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:CLASSES_SHOWN]) + (", ..." if len(names) > CLASSES_SHOWN else "")
