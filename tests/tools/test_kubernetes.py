"""The Kubernetes file, and what both launch files hand to torchrun and to fasttail."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from fasttail.cli import app

TOOLS = Path(__file__).parents[2] / "tools"
DOCUMENTS = list(yaml.safe_load_all((TOOLS / "kubernetes_train.yaml").read_text()))


def document(kind: str) -> dict[str, Any]:
    (found,) = [one for one in DOCUMENTS if one["kind"] == kind]
    return found


def script() -> str:
    (container,) = document("Job")["spec"]["template"]["spec"]["containers"]
    (text,) = container["args"]
    return text


def test_the_pods_find_the_first_one_through_the_service() -> None:
    job, service = document("Job"), document("Service")
    pod = job["spec"]["template"]["spec"]
    name, port = job["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert f"--rdzv-endpoint {name}-0.{pod['subdomain']}:{port}" in script()
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}


def test_the_numbers_of_nodes_and_gpus_agree() -> None:
    spec = document("Job")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    given = {one["name"]: one["value"] for one in container["env"]}
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(given["NODES"])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == int(given["GPUS"])


@pytest.mark.parametrize("there", [False, True])
def test_a_pod_begins_the_run_or_goes_on_with_it(tmp_path: Path, there: bool) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    if there:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.json").touch()
    done = subprocess.run(
        ["/bin/sh", "-euc", script()],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "RUN": "run", "DATASET": "d", "NODES": "2"}
        | {"GPUS": "8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("-m fasttail.torchrun --nnodes 2 --nproc-per-node 8 ")
    assert done.stdout.endswith(
        f"train --stage rep --run run {'--resume' if there else '--dataset d'}\n"
    )


@pytest.mark.parametrize("name", ["kubernetes_train.yaml", "slurm_train.sbatch"])
def test_what_is_launched_is_known_to_torchrun_and_to_fasttail(name: str) -> None:
    from torch.distributed.run import get_args_parser

    lines = [
        line
        for line in (TOOLS / name).read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    whole = re.sub(r"\\\n", " ", "\n".join(lines))
    agent, own = re.search(r"-m fasttail.torchrun (.*?) train (.*)", whole).groups()  # type: ignore[union-attr]
    known = {option for action in get_args_parser()._actions for option in action.option_strings}
    options = set(re.findall(r"--[a-z-]+", agent))
    assert options >= {"--nnodes", "--nproc-per-node", "--rdzv-endpoint"}
    assert options <= known
    train = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    assert set(re.findall(r"--[a-z-]+", own)) <= {opt for one in train.params for opt in one.opts}
