"""The first thing that anybody runs."""

import json
import subprocess
import sys
from pathlib import Path


def test_the_demo_shows_every_head_above_joint_on_few_shot_classes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fasttail", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "runs/demo/metrics.json").read_text())["rows"]
    test = {row["method"]: row for row in rows if row["split"] == "test"}
    assert {"joint", "crt", "lws", "tau", "ncm"} < set(test)
    for method in set(test) - {"joint"}:
        assert test[method]["few"] > test["joint"]["few"]
        assert method in done.stdout
    assert "runs/demo" in done.stderr
    assert "fasttail train --stage rep --dataset digits --sampler sqrt" in done.stderr
    assert "\x1b" not in done.stderr, "a log that is no terminal's has no escape codes"
