"""Which of a run's heads is meant."""

import math

from fasttail.classify import saved_paths
from fasttail.errors import UserError, unknown
from fasttail.protocol import named
from fasttail.rundir import Run

JOINT = "joint"


def methods_of(run: Run) -> list[str]:
    """The heads there are: stage 1's joint classifier, unless the backbone is a frozen one, and
    those kept in the run's `heads`."""
    kept = {path.stem for path in (run.dir / "heads").glob("*.safetensors")}
    known = [path.stem for path in saved_paths(run)]
    joint = [JOINT] if run.frozen is None else []
    return [*joint, *known, *sorted(kept.difference(known))]


def choose(run: Run, method: str | None) -> str:
    """`method`, or where none is named the best by mean class accuracy on val. The test split never
    decides. `UserError` for a method that is not there, or where there is no val to choose on."""
    there = methods_of(run)
    if method is not None:
        if method not in there:
            raise unknown(f"method of {run.dir}", method, there)
        return method
    if not there:
        raise UserError(f"{run.dir}: no heads yet: fasttail train --stage cls --run {run.dir}")
    if len(there) == 1:
        return there[0]
    on_val = {
        name: row["all_macro"]
        for row in run.rows()
        for name in [named(row["method"], row["protocol"])]
        if row["split"] == "val" and name in there
    }
    if set(on_val) != set(there):
        raise UserError(
            f"{run.dir}: which classifier? There is no val to choose on: "
            f"--method one of {', '.join(there)}"
        )
    return max(there, key=lambda name: on_val.get(name, -math.inf))
