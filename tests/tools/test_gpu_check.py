import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest
import torch

from fasttail.engines import dali
from fasttail.kernels import jpeg_decode

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import _gpu_parts  # noqa: E402
import _photos  # noqa: E402
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
    assert [gpu_check.state(result) for result in parts.results] == ["FAILED", "passed"]
    assert gpu_check.told(first) == "speed 7"


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
    _photos.make_photos(tmp_path, 5)
    sizes = [jpeg_decode(path.read_bytes()).shape for path in tmp_path.glob("*.jpg")]
    assert sorted(set(sizes)) == [(375, 500, 3), (500, 375, 3)]
    assert len(sizes) == 5
    assert all(20_000 < path.stat().st_size < 300_000 for path in tmp_path.glob("*.jpg"))


def test_what_is_found_is_written_after_each_part_and_a_crash_fails_that_part_alone(
    tmp_path: Path,
) -> None:
    parts = check(tmp_path)
    parts.json = tmp_path / "found.json"
    crash = "import os, signal; print('so far', flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
    parts.run("crash", [sys.executable, "-c", crash], limit_s=30)
    (written,) = json.loads(parts.json.read_text())["parts"]
    assert (written["rc"], written["output"]) == (-signal.SIGSEGV, "so far\n")
    parts.skip("other", "not here")
    parts.run("last", [sys.executable, "-c", "pass"], limit_s=30)
    written = json.loads(parts.json.read_text())["parts"]
    states = [gpu_check.state(part) for part in written]
    assert states == ["FAILED", "skipped: not here", "passed"]
    assert gpu_check.table({"gpu": "H100", "torch": "2.14"}, written).splitlines()[2:] == [
        "| crash | FAILED |  |",
        "| other | skipped: not here |  |",
        "| last | passed |  |",
    ]


def test_a_part_whose_time_is_up_may_still_write_what_it_has(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time, pathlib\n"
        "def leave(*_): pathlib.Path(sys.argv[1]).write_text('{\"epochs\": 7}'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "time.sleep(60)"
    )
    parts = check(tmp_path)
    parts.run("slow", [sys.executable, "-c", code, "FIGURES"], limit_s=1.5)
    (result,) = parts.results
    assert result["figures"] == {"epochs": 7}
    assert result["rc"] == 124


def test_the_packages_of_pythonpath_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rc, output = gpu_check.step([sys.executable, "-c", "import only_here, fasttail"], 30, {})
    assert (rc, output) == (0, "")


def test_it_starts_from_a_checkout_and_names_the_packages_that_it_lacks(tmp_path: Path) -> None:
    """Without site-packages nothing is there."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-S", str(TOOLS / "gpu_check.py")],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "gpu_check: not installed: torch, torchvision, numpy, numba, typer, rich, PyYAML, "
        "safetensors, pydantic, Pillow\n"
    )


def test_without_kernel_fewer_images_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTTAIL_KERNEL_DIR", raising=False)
    asked = {}
    for kernel in (False, True):
        parts = check(tmp_path)
        parts.size = gpu_check.FULL
        parts.images = tmp_path
        parts.environment = {"FASTTAIL_KERNEL_DIR": "somewhere"} if kernel else {}
        commands: list[list[str]] = []
        monkeypatch.setattr(
            parts, "run", lambda name, command, to=commands, **_: to.append(command)
        )
        parts.real(["resnet50"])
        parts.engines()
        ((real,), engines) = commands[:1], commands[1:]
        asked[kernel] = int(real[real.index("--steps") + 1])
        assert any("ffcv" in command for command in engines) == kernel
    assert asked[False] == asked[True] // 8


def given(tmp_path: Path, **more: object) -> argparse.Namespace:
    return argparse.Namespace(
        **{
            "device": "cpu",
            "backbone": "resnet10",
            "px": 32,
            "batch_size": 8,
            "steps": 2,
            "warm_up": 1,
            "mode": "eager",
            "engine": "ffcv",
            "images": tmp_path / "photos",
            "cifar": None,
            "epochs": 1,
            **more,
        }
    )


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
    found = _gpu_parts.speed(given(tmp_path, batch_size=64), tmp_path)
    assert tried == [64, 32, 16]
    assert found["batch"] == 16


def test_a_resumed_run_is_compared_with_one_that_was_not_stopped(tmp_path: Path) -> None:
    found = _gpu_parts.resume(given(tmp_path), tmp_path)
    assert found == {
        "bit_for_bit": True,
        "furthest_weight": 0.0,
        "the_same_run_twice_is_bit_for_bit": True,
        "furthest_weight_of_the_same_run_twice": 0.0,
    }


def test_engine_heads_and_recipe_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _photos.make_photos(tmp_path / "photos", 4)
    monkeypatch.setattr(_gpu_parts, "SECONDS", 0.2)
    found = _gpu_parts.engine(given(tmp_path), tmp_path / "engine")
    assert found["images_per_s"] > 1
    assert 0 < found["cpu_s_per_1000"] < 1000
    found = _gpu_parts.stage2(given(tmp_path), tmp_path / "stage2")
    assert found["features_s"] > 0
    assert found["heads_s"] > 0
    found = _gpu_parts.cifar(given(tmp_path), tmp_path / "cifar")
    assert found["epochs"] == 1
    assert set(found) == {"stage1_s", "epochs", "stage2_s"}, "noise has no accuracy to tell"


@pytest.mark.dali
def test_dali_is_compared_with_the_reference_by_kind_of_jpeg(tmp_path: Path) -> None:
    if not dali.available():
        pytest.skip("DALI is not installed")
    found = _gpu_parts.sampling(given(tmp_path), tmp_path)
    assert found["4:2:0 by"] == "the CPU"
    assert 0 <= found["4:2:0"] <= 1.5
    assert len(found) == 10


def test_the_check_runs_from_end_to_end_on_a_cpu_at_tiny_size(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = [sys.executable, str(TOOLS / "gpu_check.py"), "--device", "cpu", "--json", str(out)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*command, "--only", "real", "--only", "fp16"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    real, fp16 = json.loads(out.read_text())["parts"]
    assert real["name"] == "real against synthetic, resnet10"
    ours, synthetic = (
        real["figures"]["images_per_s"][name]["rounds"] for name in ("fasttail", "synthetic")
    )
    ratios = [a / b for a, b in zip(ours, synthetic, strict=True)]
    assert real["figures"]["real_vs_synthetic"] == pytest.approx(median(ratios))
    assert fp16["figures"]["steps"] == 20
    assert "failed: nothing" in done.stdout
