"""What `make demo` and `make test` install, seen by programs that only write down how they were
called."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORD = '#!/bin/sh\necho "$(basename "$0") $*" >>"$RECORD"\n'
# A Python that makes environments with itself inside, and says about the kernel what it is told to.
PYTHON = (
    RECORD
    + """\
case "$*" in
"-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
*why_missing*) echo "$WHY_MISSING" ;;
esac
"""
)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of programs: a Debian where nothing is installed, for root."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, text in {
        "python": PYTHON,
        "apt-get": RECORD,
        "dpkg-query": "#!/bin/sh\n",
        "id": "#!/bin/sh\necho 0\n",
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def make(programs: Path, target: str, why_missing: str = "") -> tuple[list[str], str]:
    """The packages of Debian and of Python that a target installs, and what is said."""
    record = programs.parent / "record"
    venv = programs.parent / "venv"
    env = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "RECORD": str(record),
        "WHY_MISSING": why_missing,
    }
    stamp = venv / target
    command = ["make", "-s", "-C", str(ROOT), f"VENV={venv}", "PYTHON=python", str(stamp)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    installed = [
        word
        for line in record.read_text().splitlines()
        for name, _, arguments in [line.partition(" ")]
        for word in arguments.split()
        if name == "apt-get" or "--editable" in arguments
        if not word.startswith("-")
    ]
    return installed, done.stderr


def test_the_demo_needs_a_compiler_and_libjpeg_and_no_extra(programs: Path) -> None:
    installed, said = make(programs, ".installed")
    expected = "update install gcc libc6-dev libjpeg-dev pip install ."
    assert installed == expected.split()
    assert "LEFT OUT" not in said


def test_the_tests_get_every_extra_they_use_and_the_programs_they_start(programs: Path) -> None:
    installed, _ = make(programs, ".installed-all")
    assert installed[-1] == ".[ffcv,dali,dev]"
    assert {"libopencv-dev", "chromium", "shellcheck", "iproute2", "qemu-user"} <= set(installed)
    assert (programs.parent / "venv/.installed").exists(), "the demo then installs nothing more"


def test_the_last_line_says_that_the_kernel_was_left_out(programs: Path) -> None:
    _, said = make(programs, ".installed", "no compiler: apt install gcc libjpeg-dev; python -m x")
    last = said.splitlines()[-1]
    assert "LEFT OUT" in last
    assert last.endswith("apt install gcc libjpeg-dev; python -m x")


def test_what_only_tests_and_extras_need_is_not_mandatory() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    mandatory = " ".join(project["dependencies"])
    extras = project["optional-dependencies"]
    for name in ("scikit-learn", "tensorboard", "ffcv", "dali", "timm", "onnx", "pyarrow"):
        assert name not in mandatory
    assert extras["tensorboard"][0] in extras["dev"]
    assert [need.partition(">")[0] for need in (*extras["dali"], *extras["dali-cuda13"])] == [
        "nvidia-dali-cuda120",
        "nvidia-dali-cuda130",
    ]
