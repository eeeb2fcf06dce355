"""`fasttail demo`: the whole method on handwritten digits, within a minute on a laptop's CPU."""

import itertools
import time
from pathlib import Path

from fasttail import datasets, rundir, stages
from fasttail.config import ConvertConfig
from fasttail.console import Reporter
from fasttail.shards.command import shards_root
from fasttail.shards.convert import convert

DATASET = "digits"


def demo() -> None:
    """Converts the digits (if they are not there yet), trains stage 1, makes every head that needs
    no second pass over the images, and shows them in one table. The run goes to the first free
    runs/demo, demo-2, ..."""
    start_s = time.monotonic()
    reporter = Reporter()
    shards_dir = shards_root() / DATASET
    if not (shards_dir / "dataset.json").exists():
        reporter.say(f"converting {DATASET} to {shards_dir}")
        config = ConvertConfig()
        convert(datasets.index(DATASET, None, config), shards_dir, config)
    run_dir = _free_name(rundir.RUNS / "demo")
    stages.train(stages.TrainOptions(stage="rep", shards=shards_dir, run=run_dir), reporter)
    stages.train(stages.TrainOptions(stage="cls", run=run_dir, method="all"), reporter)
    reporter.say(
        f"Done in {time.monotonic() - start_s:.0f} s. The run is in {run_dir}: log.jsonl, "
        "metrics.json and the heads.\n"
        "Next, another sampler: fasttail train --stage rep --dataset digits --sampler sqrt\n"
        "or your own images:    fasttail convert --dataset folder --source DIR"
    )


def _free_name(path: Path) -> Path:
    names = itertools.chain(
        [path], (path.with_name(f"{path.name}-{n}") for n in itertools.count(2))
    )
    return next(name for name in names if not name.exists())
