"""The Slurm array and the Kubernetes Jobs of a conversion: their words, run by stand-ins, make the
shards that one process makes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import photos
import pytest
import yaml

from fasttail.config import ConvertConfig
from fasttail.datasets import index
from fasttail.shards.convert import convert

TOOLS = Path(__file__).parents[2] / "tools"
JOBS = list(yaml.safe_load_all((TOOLS / "kubernetes_convert.yaml").read_text()))
PARTS = 30_000


def container(step: str) -> dict[str, Any]:
    (job,) = [job for job in JOBS if job["metadata"]["labels"] == {"step": step}]
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return found


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with a source, the shards that one process makes of it, and `fasttail`."""
    photos.index(tmp_path / "inat/train", photos.jpegs((9, 7)))
    cfg = ConvertConfig(jobs=1, part_size=PARTS)
    convert(index("folder", tmp_path / "inat", cfg), tmp_path / "whole", cfg)
    paths = os.pathsep.join(filter(None, sys.path))
    program = tmp_path / "fasttail"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{paths}" exec "{sys.executable}" -m fasttail "$@"\n'
    )
    program.chmod(0o755)
    return tmp_path


def run(cluster: Path, *words: str, **environment: str) -> None:
    env = {**os.environ, "PATH": f"{cluster}:{os.environ['PATH']}", **environment}
    subprocess.run(words, cwd=cluster, env=env, check=True)


def plan(cluster: Path) -> None:
    words = container("plan")["command"] + container("plan")["args"]
    words[words.index("inat2018")] = "folder"
    words[words.index("1GiB")] = str(PARTS)
    run(cluster, *words)


def merge(cluster: Path) -> None:
    words = container("merge")["command"] + container("merge")["args"]
    run(cluster, *words)
    assert photos.tree(cluster / "shards/inat") == photos.tree(cluster / "whole")


def test_a_slurm_array_makes_the_shards(cluster: Path) -> None:
    plan(cluster)
    script = str(TOOLS / "slurm_convert.sbatch")
    for task in ("1", "0"):
        given = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MAX": "1"}
        run(cluster, "bash", script, "shards/inat", **given)
    merge(cluster)


def test_the_indexed_job_makes_the_shards(cluster: Path) -> None:
    plan(cluster)
    one = container("tasks")
    for pod in range(2):
        values = {"$(JOB_COMPLETION_INDEX)": str(pod), "$(TASKS)": "2"}
        words = [*one["command"], *one["args"]]
        for name, value in values.items():
            words = [word.replace(name, value) for word in words]
        words[words.index("16")] = "1"
        run(cluster, *words)
    merge(cluster)


def test_the_number_of_pods_is_the_number_of_tasks() -> None:
    (spec,) = [job["spec"] for job in JOBS if job["spec"].get("completionMode") == "Indexed"]
    (given,) = [one["value"] for one in container("tasks")["env"] if one["name"] == "TASKS"]
    assert spec["completions"] == int(given)
