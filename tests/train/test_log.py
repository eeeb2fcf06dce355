import json
import sys
from pathlib import Path

import pytest
import torch

from fasttail.train.log import Meter, NonFiniteLoss, RunLog


def test_a_loss_that_is_not_finite_names_its_step_and_samples() -> None:
    meter = Meter()
    for step, loss in enumerate([1.0, 0.5, float("nan"), 2.0]):
        meter.add(torch.tensor(loss), torch.tensor([10 * step, 10 * step + 1]), wait_s=0.0)
    with pytest.raises(NonFiniteLoss, match=r"nan at step 102: .*\[20, 21\]"):
        meter.read(last_step=103)


def test_the_meter_starts_anew_after_each_reading() -> None:
    meter = Meter()
    meter.add(torch.tensor(4.0), torch.arange(5), wait_s=0.0)
    assert meter.read(0)["loss"] == 4.0
    meter.add(torch.tensor(1.0), torch.arange(5), wait_s=0.0)
    meter.add(torch.tensor(2.0), torch.arange(5), wait_s=0.0)
    assert meter.read(2)["loss"] == 1.5


def test_every_line_of_the_log_is_an_object(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for _ in range(2):  # a resumed run goes on writing
        with RunLog(path, enabled=True, tensorboard=False, without_tensorboard=list) as log:
            log.write("note", text="a")
            log.scalars("train", 3, loss=0.5)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["note", "train"] * 2
    assert lines[1]["loss"] == 0.5


def test_processes_but_the_main_one_write_nothing(tmp_path: Path) -> None:
    with RunLog(
        tmp_path / "log.jsonl", enabled=False, tensorboard=True, without_tensorboard=list
    ) as log:
        log.scalars("train", 3, loss=0.5)
    assert not list(tmp_path.iterdir())


def test_without_tensorboard_the_log_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = []
    with RunLog(
        tmp_path / "log.jsonl",
        enabled=True,
        tensorboard=True,
        without_tensorboard=lambda: said.append("missing"),
    ) as log:
        log.scalars("train", 3, loss=0.5)
    assert said == ["missing"]
    assert json.loads((tmp_path / "log.jsonl").read_text())["loss"] == 0.5


def test_tensorboard_gets_each_number_that_there_is(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with RunLog(
        tmp_path / "log.jsonl", enabled=True, tensorboard=True, without_tensorboard=list
    ) as log:
        log.scalars("val", 99, epoch=3, all_micro=61.5, few=None)
    board = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert board.Tags()["scalars"] == ["val/all_micro"]
    (point,) = board.Scalars("val/all_micro")
    assert (point.step, point.value) == (99, 61.5)


def test_values_can_be_looked_at_before_they_are_read() -> None:
    meter = Meter()
    meter.add(torch.tensor(1.0), torch.arange(5), wait_s=0.0)
    assert meter.values(0)["loss"] == 1.0
    meter.add(torch.tensor(2.0), torch.arange(5), wait_s=0.0)
    assert meter.read(1)["loss"] == 1.5
    assert len(meter) == 0
