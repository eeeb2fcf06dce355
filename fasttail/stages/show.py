"""What a stage says before it begins, and of what came of it."""

from collections.abc import Sequence
from typing import Any

from fasttail import report
from fasttail.compute import Compute, wait_for_all
from fasttail.console import Reporter
from fasttail.rundir import Run
from fasttail.shards import Shards
from fasttail.world import World


def announce(run: Run, opened: Shards, compute: Compute, world: World, reporter: Reporter) -> None:
    optim = run.config.optim
    counts_C = opened.split("train").counts_C
    precision = str(compute.dtype).removeprefix("torch.")
    reporter.say(
        f"{run.dir}: {run.dataset}, {counts_C.sum():,} training images in {len(counts_C):,} "
        f"classes ({counts_C.max():,} to {counts_C.min():,}); {run.config.model.backbone}, "
        f"{run.config.sampler} sampler, {run.config.loss.name}, {optim.epochs} epochs of "
        f"{optim.batch_size} images a step on {world.size} x {compute.device.type} in "
        f"{precision}"
    )
    if optim.batch_size != optim.lr_batch_size:
        reporter.say(
            f"learning rate {optim.lr:g} for {optim.lr_batch_size} images becomes "
            f"{optim.scaled_lr:g} for {optim.batch_size} (linear rule)"
        )


def show(
    rows: Sequence[dict[str, Any]],
    run: Run,
    world: World,
    reporter: Reporter,
    *,
    as_json: bool = False,
) -> None:
    """Keeps all rows, and shows those of the last split: test, where there is one; as a table, or
    as JSON with all they hold."""
    if not rows:
        reporter.say(f"{run.dataset} has no val and no test split: nothing is scored")
    elif world.is_main:
        run.add_rows(rows)
        last = rows[-1]["split"]
        images = rows[-1]["images"]
        shown = [row for row in rows if row["split"] == last]
        if as_json:
            reporter.json({"run": str(run.dir), "split": last, "rows": shown})
        else:
            title = f"{run.dataset}: accuracy in % on {last} ({images:,} images)"
            reporter.table(shown, title)
    wait_for_all(world)


def draw(run: Run, world: World, reporter: Reporter) -> None:
    """Writes the run's report.html, if so configured."""
    if world.is_main and run.config.compute.report:
        report.write_at_end(run.dir, reporter)
