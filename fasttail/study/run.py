"""`fasttail study`: every run of a study, then its matrix.

Whatever is done is not done again: a run whose rows are in its metrics.json is left alone, one that
was cut off goes on from its newest checkpoint, and of stage 2 only missing heads are made.
"""

from importlib.util import find_spec

import torch.distributed as dist

from fasttail import rundir, stages
from fasttail.compute import pick, process_group
from fasttail.console import Reporter
from fasttail.errors import stoppable
from fasttail.rundir import Run
from fasttail.stages import TrainOptions
from fasttail.study.asked import RunPlan, Study, StudyOptions, begin, plan
from fasttail.study.matrix import Cell, matrix, write
from fasttail.study.show import show
from fasttail.world import World


def study(options: StudyOptions, reporter: Reporter | None = None) -> list[Cell]:
    """Trains what is missing, writes matrix and picture into the study's directory, shows the
    table; returns the matrix. On SIGTERM it returns what there is.

    Under torchrun every process comes this same way, run by run. Raises `UserError` for what was
    asked wrongly, or otherwise than the study that is there was begun with.
    """
    world = World.from_env()
    reporter = reporter or Reporter(quiet=not world.is_main)
    made = plan(options)
    compute = pick(made.config.compute, world)
    with process_group(world, compute.device):
        if world.is_main:
            begin(made)
        with stoppable(lambda: "progress is saved: the same command resumes the study"):
            finished = _train_all(made, world, reporter)
    cells = matrix(made)
    if world.is_main:
        write(made, cells)
        show(made, cells, reporter)
        if finished:
            _picture(made, cells, reporter)
    return cells


def _picture(made: Study, cells: list[Cell], reporter: Reporter) -> None:
    """The matrix's picture. A cluster's image may lack matplotlib: all else goes on without it."""
    if find_spec("matplotlib") is None:
        reporter.say(f"{made.dir}/matrix.csv, .md; no picture: pip install matplotlib, then again")
        return
    from fasttail.study.picture import save

    save(made, cells)
    reporter.say(f"{made.dir}/matrix.csv, .md, .png, .svg")


def _train_all(made: Study, world: World, reporter: Reporter) -> bool:
    """Whether all runs are done; otherwise the job was preempted."""
    for number, run_plan in enumerate(made.runs, 1):
        reporter.say(f"study {made.dir}: run {number} of {len(made.runs)}, {run_plan.dir.name}")
        before = None
        while (options := _next(made, run_plan, world)) is not None:
            if options == before:
                raise RuntimeError(f"{run_plan.dir}: {options} changed nothing")
            before = options
            run = stages.train(options, reporter)
            if options.stage == "rep" and not run.model_path.exists():
                reporter.say("preempted: the same command resumes the study")
                return False
        if world.is_main:
            write(made, matrix(made))
    return True


def _next(made: Study, run_plan: RunPlan, world: World) -> TrainOptions | None:
    """What is to be done next for a run, None if nothing is. The main process looks, and tells the
    others: they might look while it is making the directory already."""
    found = [missing(made, run_plan) if world.is_main else None]
    if world.size > 1:
        dist.broadcast_object_list(found, src=0)
    return found[0]


def missing(made: Study, run_plan: RunPlan) -> TrainOptions | None:
    """What a run lacks: stage 1, its end, some heads, or nothing."""
    if not (run_plan.dir / "run.json").exists():
        return made.train_options(run_plan)
    run = rundir.open_run(run_plan.dir)
    if not run.model_path.exists() or not _scored(run, "joint", made):
        return TrainOptions(stage="rep", run=run_plan.dir, resume=True)
    lacking = [method for method in made.methods if not _scored(run, method, made)]
    if lacking:
        return TrainOptions(stage="cls", run=run_plan.dir, method=",".join(lacking))
    return None


def _scored(run: Run, method: str, made: Study) -> bool:
    wanted = method, made.config.protocol
    there = {row["split"] for row in run.rows() if (row["method"], row["protocol"]) == wanted}
    return there.issuperset(made.splits)
