from pathlib import Path

import pytest
import torch

from fasttail.errors import UserError
from fasttail.train.checkpoint import Checkpoints, Position, load_weights, save_weights


def model(value: float) -> torch.nn.Module:
    linear = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(linear.weight, value)
    return linear


def test_the_furthest_checkpoint_is_found_whatever_slot_it_is_in(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(Position(0, step), model(step), {"optimizer": {"x": step}})
        found = Checkpoints(tmp_path).latest()
        assert found is not None
        position, weights, state = found
        assert position == Position(0, step)
        assert weights["weight"][0, 0] == step
        assert state["optimizer"] == {"x": step}
    assert len(list(tmp_path.iterdir())) == 4


def test_a_kill_between_the_two_files_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Position(0, 1), model(1), {})
    checkpoints.save(Position(0, 2), model(2), {})
    before = (tmp_path / "a.safetensors").read_bytes()
    checkpoints.save(Position(0, 3), model(3), {})
    (tmp_path / "a.safetensors").write_bytes(before)  # as if the new weights never came
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    assert found[0] == Position(0, 2)


def test_after_resuming_the_slot_in_use_is_not_the_first_to_be_overwritten(
    tmp_path: Path,
) -> None:
    Checkpoints(tmp_path).save(Position(0, 1), model(1), {})
    again = Checkpoints(tmp_path)
    again.latest()
    again.save(Position(0, 2), model(2), {})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.safetensors", "a.state.pt", "b.safetensors", "b.state.pt"}


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"w": torch.ones(100)}, {})
    tensors, _ = load_weights(path)
    assert tensors["w"].sum() == 100
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"model\.safetensors: not readable"):
        load_weights(path)


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"w": torch.ones(4)}, {})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fasttail.atomic.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_weights(path, {"w": torch.zeros(4)}, {})
    assert load_weights(path)[0]["w"].sum() == 4
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
