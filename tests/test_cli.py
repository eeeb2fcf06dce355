"""The command line as a shell sees it: exit codes, one line on stderr, nothing left behind."""

import subprocess
import sys
from pathlib import Path

import pytest


def fasttail(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fasttail", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--stage", "rep"], "no shards in shards/"),
        (
            ["train", "--stage", "rep", "--dataset", "places-lt"],
            "fasttail convert --dataset places",
        ),
        (["train", "--stage", "rap"], "unknown stage 'rap' (did you mean 'rep'?)"),
        (["train", "--stage", "cls"], "no run in runs/"),
        (["train", "--stage", "cls", "--method", "ctr"], "did you mean 'crt'"),
        (["eval", "--run", "runs/none"], "no run here"),
        (["convert", "--dataset", "imagenet"], "did you mean 'imagenet-lt'"),
        (["convert", "--dataset", "folder", "--source", "missing"], "missing"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = fasttail(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("fasttail: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_names_every_command_and_needs_no_torch(tmp_path: Path) -> None:
    done = fasttail("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in ("convert", "train", "eval", "demo"):
        assert command in done.stdout
    imported = subprocess.run(
        [sys.executable, "-c", "import sys, fasttail.cli; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout.strip() == "False"
