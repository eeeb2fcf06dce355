"""`fasttail train --stage rep`."""

import signal

from fasttail import classify, models, rundir
from fasttail.classify import Stage
from fasttail.compute import Compute, out_of_memory_explained
from fasttail.console import Reporter
from fasttail.engines.kept import Kept
from fasttail.errors import UserError, stoppable
from fasttail.rundir import Run
from fasttail.shards import Shards
from fasttail.stages.begin import computing, new_run, shards_of
from fasttail.stages.options import TrainOptions, refuse_changes
from fasttail.stages.show import announce, draw, show
from fasttail.train import rep
from fasttail.train.preemption import Preempted
from fasttail.world import World


def train_rep(options: TrainOptions, world: World, reporter: Reporter) -> Run:
    """Makes or opens the run, trains stage 1 and scores its joint classifier.

    A job that torchrun or Slurm has started again goes on where it was, like one with `--resume`.
    """
    if options.resume:
        run = rundir.open_run(options.run or rundir.only_run())
        refuse_changes(options, run)
        if run.frozen is not None:
            raise UserError(
                f"{run.dir}: there is no stage 1, its backbone is frozen: "
                f"fasttail train --stage cls --run {run.dir}"
            )
    else:
        run = new_run(options, world, reporter)
    opened = shards_of(run)
    resume = options.resume or world.restarts > 0
    with (
        stoppable(lambda: f"progress is saved: resume with {_go_on(run)}"),
        rundir.discarded_if_refused(run, new=not resume and world.is_main),
        computing(run, world, lambda: _go_on(run)) as (compute, engines),
    ):
        announce(run, opened, compute, world, reporter)
        if run.model_path.exists():
            reporter.say(f"{run.dir}: stage 1 is already finished")
            model = rep.load_model(run, compute)
        else:
            try:
                model = _train(run, opened, world, compute, reporter, resume, engines)
            except Preempted as asked:
                if asked.signal == signal.SIGINT:
                    raise KeyboardInterrupt from None
                reporter.say(f"preempted: checkpoint saved. Resume with {_go_on(run)}")
                return run
        stage = Stage(run, model, opened, world, compute, reporter, engines)
        rows = classify.score_everywhere([classify.joint_head(model, run.protocol)], stage)
        show(rows, run, world, reporter)
    draw(run, world, reporter)
    reporter.say(f"stage 2: fasttail train --stage cls --run {run.dir}")
    return run


def _train(
    run: Run,
    opened: Shards,
    world: World,
    compute: Compute,
    reporter: Reporter,
    resume: bool,
    engines: Kept,
) -> models.Recognizer:
    """The training, with what may happen to a machine put into words."""
    optim = run.config.optim
    with out_of_memory_explained(
        optim.batch_size // world.size // optim.accumulate,
        run.config.data.px,
        _smaller(run),
    ):
        return rep.train(
            run,
            opened,
            world=world,
            compute=compute,
            reporter=reporter,
            resume=resume,
            engines=engines,
        )


def _smaller(run: Run) -> str:
    """What takes less memory."""
    optim = run.config.optim
    smaller = f"--batch-size {max(optim.batch_size // 2, 1)} lowers the learning rate too"
    if run.config.compute.cuda_graphs:  # which are of whole batches
        return smaller
    parts = f"--set optim.accumulate={2 * optim.accumulate}"
    return f"{parts} takes half as many at a time and trains the same but for BatchNorm, {smaller}"


def _go_on(run: Run) -> str:
    return f"fasttail train --stage rep --run {run.dir} --resume"
