"""`fasttail train --stage cls` and `fasttail eval`."""

import itertools
from pathlib import Path
from typing import Any

from fasttail import classify, rundir
from fasttail.classify import Stage, sweep
from fasttail.console import Reporter
from fasttail.errors import stoppable
from fasttail.rundir import Run
from fasttail.stages.begin import computing, shards_of
from fasttail.stages.given import begins_run, opened_run, run_from
from fasttail.stages.options import TrainOptions, configure
from fasttail.stages.show import draw, show
from fasttail.train import rep
from fasttail.world import World


def train_cls(options: TrainOptions, world: World, reporter: Reporter) -> Run:
    """Makes the heads that were asked for, one after the other, and scores them: what is done is
    kept, whatever comes next."""
    classify.names(options.method)  # says which there are, before any work is done
    new = begins_run(options)
    run = run_from(options, world, reporter) if new else opened_run(options)
    run = run.with_config(configure(options, run.config))
    opened = shards_of(run)
    again = "the same command" + (f" and --run {run.dir} --resume" if new else "")
    with computing(run, world, lambda: again) as (compute, engines):
        model = rep.load_model(run, compute)
        stage = Stage(run, model, opened, world, compute, reporter, engines)
        if world.is_main:
            run.note_stage2()
        methods = classify.of_these(
            options.method, stage.config, frozen_backbone=run.frozen is not None
        )
        rows: list[dict[str, Any]] = []
        left = list(methods)
        with stoppable(
            lambda: f"finished heads are saved: resume with {again} and --method {','.join(left)}"
        ):
            first = classify.first_head(stage)
            there = [first] if first is not None and first.method not in methods else []
            for head in itertools.chain(there, classify.make_heads(methods, stage)):
                scored = classify.score_everywhere([head], stage)
                if world.is_main:
                    run.add_rows(scored)
                if head.method == "tau":
                    sweep.write(head, stage)
                rows += scored
                left = [method for method in left if method != head.method]
        show(rows, run, world, reporter)
    draw(run, world, reporter)
    return run


def evaluate(
    run_dir: Path | None,
    split_name: str,
    reporter: Reporter | None = None,
    *,
    as_json: bool = False,
) -> list[dict[str, Any]]:
    """Scores stage 1's classifier and every head of a run on a split; returns the rows, which are
    added to metrics.json and shown."""
    world = World.from_env()
    reporter = reporter or Reporter(quiet=not world.is_main)
    run = rundir.open_run(run_dir or rundir.only_run())
    opened = shards_of(run)
    opened.split(split_name)  # says which there are, before any work is done
    with computing(run, world, lambda: "the same command") as (compute, engines):
        model = rep.load_model(run, compute)
        stage = Stage(run, model, opened, world, compute, reporter, engines)
        rows = classify.score_heads(classify.saved_heads(run, model), stage, split_name)
        show(rows, run, world, reporter, as_json=as_json)
    return rows
