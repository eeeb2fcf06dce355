from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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


DAMAGE = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "no such file": lambda content: b"junk" * 100,
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("file", ["b.state.pt", "b.safetensors"])
def test_a_damaged_slot_does_not_stand_in_the_way_of_the_whole_one(
    tmp_path: Path, file: str, how: str
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Position(0, 1), model(1), {"optimizer": {"x": 1}})
    checkpoints.save(Position(0, 2), model(2), {"optimizer": {"x": 2}})
    (tmp_path / file).write_bytes(DAMAGE[how]((tmp_path / file).read_bytes()))
    again = Checkpoints(tmp_path)
    found = again.latest()
    assert found is not None
    assert (found[0], found[2]["optimizer"]) == (Position(0, 1), {"x": 1})
    assert str(tmp_path / file) in again.damage
    assert "\n" not in again.damage
    again.save(Position(0, 3), model(3), {})  # over the damaged one
    last = Checkpoints(tmp_path)
    found = last.latest()
    assert found is not None
    assert found[0] == Position(0, 3)
    assert not last.damage
    (tmp_path / "a.state.pt").write_bytes(b"")
    (tmp_path / file).write_bytes(b"")
    with pytest.raises(UserError, match=r"no intact checkpoint is left: start the training again"):
        Checkpoints(tmp_path).latest()


@pytest.mark.parametrize("about", ["{", "3", "null", "[" * 100_000])
def test_weights_whose_description_is_damaged_are_named(tmp_path: Path, about: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(4)}, path, {"fasttail-1": about})
    with pytest.raises(UserError, match=r"model\.safetensors: damaged: ") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)
    save_file({"w": torch.ones(4)}, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"format 'format', but this version reads 'fasttail-1'"):
        load_weights(path)


def test_the_same_weights_and_description_are_the_same_bytes(tmp_path: Path) -> None:
    path, weights, found = tmp_path / "model.safetensors", model(1).state_dict(), set()
    for _ in range(20):  # the library orders what a file says of itself as its hashes fall
        save_weights(path, weights, {"backbone": "resnet50", "classes": 2})
        found.add(path.read_bytes())
    assert len(found) == 1


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
