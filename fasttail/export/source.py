"""What is exported or predicted with: a run's frozen model, one of its heads, its description."""

from dataclasses import dataclass
from pathlib import Path

from fasttail import rundir
from fasttail.classify import joint_head
from fasttail.classify.head import Head
from fasttail.compute import Compute, pick
from fasttail.config import ComputeConfig
from fasttail.export.about import About
from fasttail.export.choose import JOINT, choose
from fasttail.export.deployed import Deployed
from fasttail.models import Recognizer
from fasttail.rundir import Run
from fasttail.stages.begin import shards_of
from fasttail.train import rep
from fasttail.world import World


@dataclass(frozen=True)
class Trained:
    """A run's model in evaluation mode and one head, both on `compute`'s device."""

    run: Run
    model: Recognizer
    head: Head
    about: About
    compute: Compute

    def deployed(self) -> Deployed:
        """The two as one module."""
        return Deployed(self.model.backbone, self.head, self.about.mean, self.about.std)


def load_run(directory: Path | None, method: str | None, compute: ComputeConfig | None) -> Trained:
    """A run's classifier, with `compute` instead of the run's own arithmetic if it is given. The
    run's shards have to be there: their dataset.json says how images became pixels.

    Raises `UserError` if the run, its shards, its model or the method is not there.
    """
    run = rundir.open_run(directory or rundir.only_run())
    shards = shards_of(run)
    chosen = choose(run, method)
    place = pick(compute or run.config.compute, World.from_env())
    model = rep.load_model(run, place).eval()
    head = joint_head(model, run.protocol) if chosen == JOINT else Head.load(run.head_path(chosen))
    model = head.model(model)  # with a backbone of its own, where its method changed it
    return Trained(run, model, head.to(place.device), About.of(run, shards, head), place)
