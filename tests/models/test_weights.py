from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from fasttail import models
from fasttail.errors import UserError
from fasttail.models.weights import load_into


def test_the_authors_checkpoints_are_understood(tmp_path: Path) -> None:
    donor = models.build("resnet10", 7)
    nested = {
        "epoch": 3,
        "state_dict_best": {
            "feat_model": {f"module.{k}": v for k, v in donor.backbone.state_dict().items()},
            "classifier": {f"module.fc.{k}": v for k, v in donor.classifier.state_dict().items()},
        },
    }
    torch.save(nested, tmp_path / "theirs.pth")
    model = models.build("resnet10", 7)
    loaded = load_into(model, tmp_path / "theirs.pth")
    assert not loaded.missing
    assert not loaded.unused
    for name, value in donor.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


def test_torchvisions_weights_load_and_a_classifier_of_another_size_is_left_fresh(
    tmp_path: Path,
) -> None:
    donor = resnet18(weights=None)
    torch.save(donor.state_dict(), tmp_path / "resnet18.pth")
    model = models.build("resnet18", 9)
    fresh = model.classifier.weight.clone()
    loaded = load_into(model, tmp_path / "resnet18.pth")
    assert set(loaded.missing) == {"classifier.weight", "classifier.bias"}
    assert "of another shape" in str(loaded)
    torch.testing.assert_close(model.backbone.conv1.weight, donor.conv1.weight)
    torch.testing.assert_close(model.classifier.weight, fresh)


class Bomb:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": Bomb(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="pickled code is not run"):
        load_into(models.build("resnet20", 2), tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save(models.build("resnet20", 2).state_dict(), tmp_path / "small.pth")
    with pytest.raises(UserError, match="another architecture"):
        load_into(models.build("resnet50", 2), tmp_path / "small.pth")


def test_a_file_that_is_no_weights_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "noise.pth").write_bytes(b"not weights")
    (tmp_path / "noise.safetensors").write_bytes(b"not weights")
    model = models.build("resnet20", 2)
    for name in ("noise.pth", "noise.safetensors", "missing.pth"):
        with pytest.raises(UserError, match=name):
            load_into(model, tmp_path / name)
