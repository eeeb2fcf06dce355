import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fasttail import stages
from fasttail.console import Reporter

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import measure_protocols  # noqa: E402

SMALL = (
    *("model.backbone=resnet20", "optim.epochs=1", "optim.batch_size=8", "optim.warmup_epochs=0"),
    *("classify.crt.epochs=1", "classify.lws.epochs=1", "shots.many_above=15", "shots.few_below=6"),
    *("compute.amp=fp32", "compute.tensorboard=false", "compute.report=false"),
)
LINES = measure_protocols.LINES[:2]


@pytest.fixture
def run_dir(blob_shards: Path, tmp_path: Path) -> Path:
    options = stages.TrainOptions("rep", shards=blob_shards, run=tmp_path / "run", settings=SMALL)
    return stages.train(options, Reporter(quiet=True)).dir


def measure(run_dir: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> dict[str, Any]:
    out = run_dir.parent / "protocols.json"
    command = ["measure_protocols.py", "--run", str(run_dir), "--json", str(out), *options]
    monkeypatch.setattr(sys, "argv", command)
    measure_protocols.main()
    return json.loads(out.read_text())


def test_it_goes_on_after_the_lines_that_are_measured(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[tuple[str, int]] = []
    stage2 = measure_protocols.stage2

    def counted(run: Any, home: Path, line: Any, seed: int, reporter: Reporter) -> Any:
        done.append((line.name, seed))
        if len(done) == 4:
            raise KeyboardInterrupt
        return stage2(run, home, line, seed, reporter)

    monkeypatch.setattr(measure_protocols, "LINES", LINES)
    monkeypatch.setattr(measure_protocols, "stage2", counted)
    first, second = (line.name for line in LINES)
    with pytest.raises(KeyboardInterrupt):
        measure(run_dir, monkeypatch, "--seeds", "2")
    found = measure(run_dir, monkeypatch, "--seeds", "2")
    # The line that was stopped half-way is measured anew, the one before it is not.
    assert done == [
        *((first, n) for n in (0, 1)),
        *((second, n) for n in (0, 1)),
        (second, 0),
        (second, 1),
    ]
    assert set(found["lines"]) == {first, second}
    assert [set(rows) for rows in found["lines"][second]] == 2 * [{"crt", "lws"}]
    assert f"| {second} | crt |" in capsys.readouterr().out

    with pytest.raises(SystemExit, match="other seeds"):
        measure(run_dir, monkeypatch, "--seeds", "3")
