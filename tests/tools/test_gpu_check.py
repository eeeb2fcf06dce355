import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TOOL = Path(__file__).parents[2] / "tools" / "gpu_check.py"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_nothing_to_check_and_that_is_said() -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "no NVIDIA GPU" in done.stderr


def test_a_step_keeps_what_was_printed_and_how_it_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = runpy.run_path(str(TOOL))["step"]
    found = step("two", [sys.executable, "-c", "print('hello'); raise SystemExit(3)"])
    assert (found["rc"], found["output"]) == (3, "hello\n")
    assert json.dumps(found)
    assert "== two" in capsys.readouterr().out
