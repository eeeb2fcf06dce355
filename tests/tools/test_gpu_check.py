import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fasttail.kernels import jpeg_decode

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import _gpu_parts  # noqa: E402
import gpu_check  # noqa: E402


def check(tmp_path: Path, minutes: float = 1.0) -> gpu_check.Check:
    return gpu_check.Check("cpu", gpu_check.TINY, tmp_path, time.monotonic() + 60 * minutes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_nothing_to_check_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    with pytest.raises(SystemExit) as end:
        gpu_check.main()
    assert end.value.code == 2
    assert "no NVIDIA GPU" in capsys.readouterr().err


def test_a_part_keeps_what_was_printed_and_how_it_ended_and_the_next_one_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = check(tmp_path)
    code = "import sys; print('hello'); open(sys.argv[1], 'w').write('{\"speed\": 7}'); exit(3)"
    parts.run("two", [sys.executable, "-c", code, "FIGURES"], limit_s=30)
    parts.run("three", [sys.executable, "-c", "pass"], limit_s=30)
    first, second = parts.results
    assert (first["rc"], first["output"], first["figures"]) == (3, "hello\n", {"speed": 7})
    assert second["rc"] == 0
    assert json.dumps(parts.results)
    assert "== two" in capsys.readouterr().out
    failed, passed = gpu_check.summary(parts.results)
    assert "FAILED" in failed
    assert "passed" in passed


def test_a_part_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    inner = f"import time, pathlib; time.sleep(1.5); pathlib.Path({str(alive)!r}).touch()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    rc, output = gpu_check.step([sys.executable, "-c", outer], 0.5, {})
    assert rc == 124
    assert "took longer than 0.5 s" in output
    time.sleep(1.5)
    assert not alive.exists()


def test_a_part_that_there_is_no_time_for_is_skipped_and_not_failed(tmp_path: Path) -> None:
    parts = check(tmp_path, minutes=0)
    parts.cifar()
    (result,) = parts.results
    assert result["rc"] is None
    assert "no time left" in result["skipped"]


def test_without_a_compiler_the_check_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTTAIL_KERNEL_DIR", raising=False)
    monkeypatch.setenv("CC", "no-such-compiler")
    parts = check(tmp_path)
    parts.kernel()
    (result,) = parts.results
    assert result["rc"] is None
    assert "no kernel can be built" in result["skipped"]
    assert parts.environment == {}


def test_photographs_are_made_where_none_are_given(tmp_path: Path) -> None:
    _gpu_parts.make_photos(tmp_path, 5)
    sizes = [jpeg_decode(path.read_bytes()).shape for path in tmp_path.glob("*.jpg")]
    assert sorted(set(sizes)) == [(375, 500, 3), (500, 375, 3)]
    assert len(sizes) == 5
    assert all(20_000 < path.stat().st_size < 300_000 for path in tmp_path.glob("*.jpg"))


def test_a_batch_that_does_not_fit_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def train(run: object) -> list[dict[str, float]]:
        tried.append(run.config.optim.batch_size)  # type: ignore[attr-defined]
        if tried[-1] > 20:
            raise torch.OutOfMemoryError("too much")
        return [{"images_per_s": 10.0, "waiting_share": 0.0}] * 3

    monkeypatch.setattr(_gpu_parts._product, "train", train)
    args = argparse.Namespace(
        backbone="resnet10", mode="eager", px=32, batch_size=64, steps=2, warm_up=1, device="cpu"
    )
    found = _gpu_parts.train_speed(args, tmp_path)
    assert tried == [64, 32, 16]
    assert found["batch"] == 16


def test_the_check_runs_from_end_to_end_on_a_cpu_at_tiny_size(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = [sys.executable, str(TOOLS / "gpu_check.py"), "--device", "cpu", "--json", str(out)]
    done = subprocess.run(
        [*command, "--only", "train"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    (training,) = json.loads(out.read_text())["steps"]
    assert training["name"] == "training resnet10, eager"
    assert training["figures"]["images_per_s"] > 0
    assert "failed: nothing" in done.stdout
