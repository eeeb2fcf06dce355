import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import profile_train  # noqa: E402


def test_a_step_is_taken_apart_and_traced(
    blob_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trace, figures = tmp_path / "trace.json", tmp_path / "figures.json"
    command = ["profile_train.py", "--shards", str(blob_shards), "--steps", "3"]
    command += ["--trace", str(trace), "--json", str(figures)]
    for setting in ("optim.batch_size=16", "model.backbone=resnet20", "compute.device=cpu"):
        command += ["--set", setting]
    monkeypatch.setattr(sys, "argv", command)
    whole = profile_train.rep.stage1_epochs
    profile_train.main()
    assert profile_train.rep.stage1_epochs is whole
    milliseconds = json.loads(figures.read_text())["ms_per_step"]
    assert milliseconds["forward"] > 0
    assert milliseconds["backward"] > milliseconds["augment"]
    names = {event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"]}
    assert "aten::conv2d" in names
    said = capsys.readouterr().out
    assert "resnet20, 16 images a step, on cpu" in said
    assert "images/s" in said


def test_no_tool_takes_the_name_of_a_module_of_pythons() -> None:
    """A tool's folder comes first where it is run: `import profile` would get tools/profile.py."""
    names = {path.stem for path in TOOLS.glob("*.py")}
    assert names
    assert not names & sys.stdlib_module_names
