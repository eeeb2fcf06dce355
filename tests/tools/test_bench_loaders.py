"""The loaders' benchmark says of a contender without figures whether it is missing or broken."""

import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import bench_loaders  # noqa: E402

DIES = "import sys; sys.exit('the driver is too old')"
MISSING = "import no_such_loader"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (DIES, "FAILED with exit code 1: the driver is too old"),
        (MISSING, "not here: ModuleNotFoundError: No module named 'no_such_loader'"),
        ("import os; os.abort()", "FAILED with exit code -6: "),
    ],
)
def test_a_contender_that_dies_is_not_taken_for_a_missing_one(
    program: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_loaders.py").write_text(program + "\n")
    monkeypatch.setattr(bench_loaders, "HERE", tmp_path)
    contender = bench_loaders.Contender("any", tmp_path)
    assert contender.epoch() is None
    assert contender.why_not() == said
    contender.end()
