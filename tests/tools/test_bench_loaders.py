"""The loaders' benchmark: its ratios, and what it says of a contender without figures."""

import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import _photos  # noqa: E402
import bench_loaders  # noqa: E402

from fasttail import kernels  # noqa: E402

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


@pytest.mark.skipif(not kernels.available(), reason=kernels.why_missing())
@pytest.mark.parametrize("scenario", ["tail", "progressive"])
def test_ratios_are_those_of_the_rounds(
    scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _photos.make_photos(tmp_path / "photos", 3)
    counts, out = tmp_path / "counts.json", tmp_path / "figures.json"
    counts.write_text("[40, 4]")
    options = ["--images", str(tmp_path / "photos"), "--counts", str(counts), "--json", str(out)]
    options += ["--only", scenario, "--draws", "8", "--batch", "4", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["bench_loaders.py", *options])
    monkeypatch.setitem(bench_loaders.SCENARIOS, scenario, [bench_loaders.OURS, bench_loaders.PIL])
    bench_loaders.main()
    found = json.loads(out.read_text())
    assert set(found["ratios"]) == set(found["spreads"]) == set(bench_loaders.TARGETS)
    rates = [figures["rates"] for figures in found["scenarios"][scenario].values()]
    pairs = [ours / peer for ours, peer in zip(*rates, strict=True)]
    if scenario == "tail":
        assert found["ratios"]["tail_vs_pil"] == pytest.approx(sum(pairs) / 2)
    assert len(rates[0]) == 2
    assert found["ratios"]["ffcv_vs_limit"] is None
