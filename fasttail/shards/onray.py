"""`--on ray`: the parts are made as tasks on a Ray cluster, which sees the source and the output
under the same paths.

A worker process or a node that dies costs what it had under way: Ray starts those parts again, and
a part is whole or not at all.
"""

import os
from functools import lru_cache
from importlib.util import find_spec
from logging import WARNING
from pathlib import Path
from typing import Any

from fasttail.errors import MissingExtra, UserError
from fasttail.shards import manifest, task
from fasttail.shards.manifest import Manifest
from fasttail.shards.pool import Pool
from fasttail.shards.workdir import WorkDir

RETRIES = 20  # of a part whose process or node died


def make_parts(work: WorkDir, about: Manifest, address: str, advance: task.Advance) -> None:
    """Makes all parts on the cluster at `address`: "ray" for the one that this machine is part of,
    or one of its own if there is none; "ray://HOST:PORT".

    Raises `UserError` if there is no such cluster, or a part can't be made.
    """
    if find_spec("ray") is None:
        raise MissingExtra("--on ray", "ray", "ray")
    import ray
    from ray.exceptions import RayError

    try:
        ray.init(None if address == "ray" else address, log_to_driver=False, logging_level=WARNING)
    except (ConnectionError, ValueError) as error:
        raise UserError(f"--on {address}: no Ray cluster answers: {error}") from None
    try:
        jobs = about.cfg.jobs or _jobs(ray.nodes(), len(about.parts))
        remote = ray.remote(num_cpus=jobs, max_retries=RETRIES)(_make)
        out = str(work.out.absolute())
        waiting = {remote.remote(out, about.key, k, jobs): k for k in range(len(about.parts))}
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            part = about.parts[waiting.pop(done)]
            try:
                said = ray.get(done)
            except RayError as error:
                raise UserError(
                    f"{part.name}: Ray gave it up after {RETRIES} tries ({type(error).__name__}): "
                    "run the same command again: it keeps the finished shards"
                ) from error
            if said is not None:
                raise UserError(said)
            advance(part.split, part.images)
    finally:
        ray.shutdown()


def _jobs(nodes: list[dict[str, Any]], parts: int) -> int:
    """Worker processes for a part: one, but more where there are fewer parts than cores."""
    cpus = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    cpus = [n for n in cpus if n]
    return max(1, min(sum(cpus) // parts, *cpus)) if cpus else 1


def _make(out: str, key: str, number: int, jobs: int) -> str | None:
    """Runs in a process of Ray's; returns what is wrong, if something is."""
    work = WorkDir(Path(out))
    try:
        about = manifest.read_as(work, key)
        task.make(work, about, about.parts[number], _pool(out, key, jobs), lambda *_: None)
    except UserError as error:
        return str(error)
    return None


@lru_cache(maxsize=1)  # Ray gives a process one task of a conversion after the other
def _pool(out: str, key: str, jobs: int) -> Pool:
    os.environ["OMP_NUM_THREADS"] = "1"
    return task.open_pool(manifest.read_as(WorkDir(Path(out)), key), jobs)
