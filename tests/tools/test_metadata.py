"""The files beside the code that other programs read."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fasttail

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = dict(
    re.findall(r"^([^#=\s]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
)


def test_the_citation_names_the_version_and_the_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == fasttail.__version__
    assert citation["license"] == PROJECT["license"]


def test_what_the_package_needs_is_pinned_to_a_version_that_it_takes() -> None:
    extras = PROJECT["optional-dependencies"]
    for text in (*PROJECT["dependencies"], *extras["ffcv"], *extras["dali"], *extras["dev"]):
        need = Requirement(text)
        assert need.specifier.contains(PINNED[canonicalize_name(need.name)]), text


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=str)
def test_a_workflow_runs_scripts_and_targets_that_there_are(path: Path) -> None:
    text = path.read_text()
    assert "Not run yet anywhere" in text
    steps = [step for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
    commands = "\n".join(step.get("run", "") for step in steps)
    for script in re.findall(r"\b(?:sh|bash) (\S+)", commands):
        assert (ROOT / script).exists()
    for target in re.findall(r"^make (\w+)", commands, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
