"""What the commands do: find the shards and the recipe, make or open the run, call the stage."""

from fasttail.console import Reporter
from fasttail.errors import unknown
from fasttail.rundir import Run
from fasttail.stages.begin import base_config, check_start, shards_dir
from fasttail.stages.options import TrainOptions
from fasttail.stages.stage1 import train_rep
from fasttail.stages.stage2 import evaluate, train_cls
from fasttail.world import World

__all__ = ["TrainOptions", "base_config", "check_start", "evaluate", "shards_dir", "train"]

STAGES = {"rep": train_rep, "cls": train_cls}


def train(options: TrainOptions, reporter: Reporter | None = None) -> Run:
    """Runs a stage; its rows are added to the run's metrics.json and shown. Returns the run."""
    if options.stage not in STAGES:
        raise unknown("stage", options.stage, STAGES)
    world = World.from_env()
    reporter = reporter or Reporter(quiet=not world.is_main)
    return STAGES[options.stage](options, world, reporter)
