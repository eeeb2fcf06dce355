"""`fasttail train --stage rep`."""

from fasttail import classify, rundir
from fasttail.classify import Stage
from fasttail.console import Reporter
from fasttail.rundir import Run
from fasttail.stages.begin import computing, initial_model, new_run, shards_of
from fasttail.stages.options import TrainOptions, refuse_changes
from fasttail.stages.show import announce, show
from fasttail.train import rep
from fasttail.train.preemption import Preempted
from fasttail.world import World


def train_rep(options: TrainOptions, world: World, reporter: Reporter) -> Run:
    """Makes or opens the run, trains stage 1 and scores its joint classifier."""
    if options.resume:
        run = rundir.open_run(options.run or rundir.only_run())
        refuse_changes(options, run)
    else:
        run = new_run(options, world)
    opened = shards_of(run)
    with (
        rundir.discarded_if_refused(run, new=not options.resume and world.is_main),
        computing(run, world) as compute,
    ):
        announce(run, opened, compute, world, reporter)
        if run.model_path.exists():
            reporter.say(f"{run.dir}: stage 1 has ended here before")
            model = rep.load_model(run, compute)
        else:
            init = initial_model(run, options.init, reporter) if options.init else None
            try:
                model = rep.train(
                    run,
                    opened,
                    world=world,
                    compute=compute,
                    reporter=reporter,
                    resume=options.resume,
                    init=init,
                )
            except Preempted:
                reporter.say(
                    "asked to leave, and the checkpoint is written: go on with "
                    f"fasttail train --stage rep --run {run.dir} --resume"
                )
                return run
        stage = Stage(run, model, opened, world, compute, reporter)
        rows = classify.score_everywhere([classify.joint_head(model)], stage)
        show(rows, run, world, reporter)
    reporter.say(f"stage 2: fasttail train --stage cls --run {run.dir}")
    return run
