import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import _photos  # noqa: E402
import _product  # noqa: E402
import bench_train  # noqa: E402
from _parts import INSIDE, LOOP, OUTSIDE, PartsClock  # noqa: E402

from fasttail import engines  # noqa: E402


def figures(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> dict[str, Any]:
    out = folder / "figures.json"
    monkeypatch.setattr(sys, "argv", ["bench_train.py", *options, "--json", str(out)])
    monkeypatch.setattr(engines, "ENGINES", dict(engines.ENGINES))  # the peers go again
    bench_train.main()
    return json.loads(out.read_text())


def test_the_benchmark_trains_on_real_and_synthetic_images_and_beside_a_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _photos.make_photos(tmp_path / "photos", 4)
    monkeypatch.setattr(bench_train._peers, "torchvision", _absent)
    monkeypatch.setattr(bench_train._peers, "pil", _batches)
    monkeypatch.setattr(bench_train._peers, "stock_ffcv", _absent)
    monkeypatch.setattr(bench_train._peers, "plain_dali", _absent)
    found = figures(
        monkeypatch,
        tmp_path,
        *("--images", str(tmp_path / "photos"), "--px", "32", "--batch-size", "4", "--rounds", "2"),
        *("--steps", "4", "--warm-up", "2", "--amp", "fp32", "--max-side", "40"),
    )
    rates = found["images_per_s"]
    assert set(rates) == {
        *("synthetic", "fasttail", "fasttail, 40 px", "PIL + DataLoader", "loader alone")
    }
    assert all(len(rate["rounds"]) == 2 and min(rate["rounds"]) > 0 for rate in rates.values())
    ratios = [
        real / synthetic
        for real, synthetic in zip(
            rates["fasttail"]["rounds"], rates["synthetic"]["rounds"], strict=True
        )
    ]
    assert found["real_vs_synthetic"] == pytest.approx(sum(ratios) / 2)
    assert 0 <= found["waiting_share"] < 1
    assert "stock FFCV: not here" in capsys.readouterr().out
    assert set(found["conditions"]) >= {"command", "machine", "versions", "load_before"}


def _absent(*_: Any) -> Any:
    raise ImportError("no such package")


def _batches(job: Any) -> Any:
    """A peer whose images are torch's, channels first."""
    shape = (job.batch, 3, job.px, job.px)
    return lambda epoch: ((torch.zeros(shape, dtype=torch.uint8), 0) for _ in range(job.steps))


def test_the_parts_of_an_epoch_are_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = figures(
        monkeypatch,
        tmp_path,
        *("--cifar", "--cifar-images", "32", "--epochs", "2", "--rounds", "1"),
        *("--set", "optim.batch_size=8", "--set", "model.backbone=resnet20", "--amp", "fp32"),
    )
    parts = {name: seconds[0] for name, seconds in found["parts_s"].items()}
    assert set(parts) == {*INSIDE, *OUTSIDE}
    assert all(seconds > 0 for seconds in parts.values()), parts
    assert sum(parts.values()) == pytest.approx(2 * found["epoch_s"])
    outside = sum(parts[name] for name in OUTSIDE) / sum(parts.values())
    assert found["outside_share"] == pytest.approx(outside)
    assert max(parts, key=parts.__getitem__) in INSIDE


def test_a_part_within_a_part_counts_once() -> None:
    with PartsClock(skip_epochs=0, device="cpu") as clock:
        clock.epoch_begins()
        with clock._inside("outer"), clock._inside("inner"):
            torch.zeros(8).sum()
    assert set(clock.seconds) >= {"outer", "inner", LOOP}
    assert engines.make.__name__ == "make"  # the doors are as they were


def test_rates_are_averaged_over_time_and_the_warm_up_is_left_out() -> None:
    lines = [(1.0, 0.9), (100.0, 0.0), (50.0, 0.3)]
    speed = _product.Speed.of([{"images_per_s": r, "waiting_share": w} for r, w in lines])
    assert speed.images_per_s == pytest.approx(2 / (1 / 100 + 1 / 50))
    assert speed.waiting_share == pytest.approx(0.3 * 2 / 3)
