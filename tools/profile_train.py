"""Where the time of a training step goes.

    python tools/profile_train.py --shards shards/inat2018 [--steps 50] [--trace trace.json]
                                  [--config NAME] [--set KEY=VALUE] [--json FILE]

Trains a new model in a scratch folder by the product's own loop, with the recipe that `fasttail
train` would take, and prints each part's milliseconds a step: waiting for images, augmentation,
forward, loss, backward, optimizer, logging, checkpoint. On a GPU the clock waits for the device at
each part's end, so the parts are true and the whole is slower than it would be.

`--trace` trains once more under torch.profiler, without that clock, and writes what each operator
and each GPU kernel did for chrome://tracing or https://ui.perfetto.dev.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import _product
from _parts import INSIDE, OUTSIDE, PartsClock
from torch.profiler import ProfilerActivity, profile

from fasttail.compute import pick
from fasttail.plan.contract import Plan
from fasttail.rundir import Run
from fasttail.train import rep
from fasttail.world import World

TRACED_STEPS = 10
OPERATORS = 15


class FirstSteps:
    """A plan's first steps."""

    def __init__(self, plan: Plan, steps: int) -> None:
        self.steps = min(steps, plan.steps)
        self.out_hw, self.max_batch, self.batch = plan.out_hw, plan.max_batch, plan.batch


def train_steps(run: Run, steps: int) -> None:
    """Two epochs of at most so many steps; the first is there for what happens only once."""
    whole = rep.stage1_epochs

    def short(*args: Any, **options: Any) -> Any:
        epoch_plan = whole(*args, **options)
        return lambda epoch: FirstSteps(epoch_plan(epoch), steps)

    rep.stage1_epochs = short
    try:
        _product.train(run)
    finally:
        rep.stage1_epochs = whole


def parts_of_a_step(run: Run, steps: int, device: str) -> dict[str, float]:
    """Milliseconds a step of each part."""
    with PartsClock(skip_epochs=1, device=device) as clock:
        train_steps(run, steps)
    return {part: 1000 * seconds / clock.steps for part, seconds in clock.seconds.items()}


def show(milliseconds: dict[str, float], batch: int) -> None:
    total = sum(milliseconds.values())
    print(f"\n{'part of a step':<22}{'ms':>9}{'share':>9}")
    for part in sorted((*INSIDE, *OUTSIDE), key=milliseconds.__getitem__, reverse=True):
        print(f"{part:<22}{milliseconds[part]:>9.2f}{milliseconds[part] / total:>9.1%}")
    print(f"{'all':<22}{total:>9.2f}{1000 * batch / total:>9.0f} images/s")


def trace(run: Run, steps: int, device: str, out: Path) -> None:
    """Writes the trace, and prints the operators that took longest."""
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        train_steps(run, steps)
    profiler.export_chrome_trace(str(out))
    print("\n" + profiler.key_averages().table(f"self_{device}_time_total", OPERATORS))
    print(f"{out}: open it in https://ui.perfetto.dev or chrome://tracing")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--config", help="a recipe. [default: the data set's]")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--trace", type=Path, help="write a trace for Perfetto here")
    parser.add_argument("--json", type=Path, help="write the milliseconds here")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as of fasttail train"
    )
    args = parser.parse_args()
    conditions = _product.conditions()
    settings = [*args.set, "optim.epochs=2", "validate_every=1000"]
    with tempfile.TemporaryDirectory(prefix="profile-") as scratch:
        folder = Path(scratch) / "run"
        run = _product.begin(args.shards, args.config, settings, folder)
        device = pick(run.config.compute, World()).device.type
        batch = run.config.optim.batch_size
        print(f"{run.config.model.backbone}, {batch} images a step, on {device}")
        milliseconds = parts_of_a_step(run, args.steps, device)
        show(milliseconds, batch)
        if args.trace:
            run = _product.begin(args.shards, args.config, settings, folder)
            trace(run, min(args.steps, TRACED_STEPS), device, args.trace)
    if args.json:
        found = {"ms_per_step": milliseconds, "batch": batch, "conditions": conditions}
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
