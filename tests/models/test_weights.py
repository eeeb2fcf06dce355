from pathlib import Path
from urllib.error import URLError

import numpy as np
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
    loaded = load_into(model, str(tmp_path / "theirs.pth"))
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
    loaded = load_into(model, str(tmp_path / "resnet18.pth"))
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
        load_into(models.build("resnet20", 2), str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save(models.build("resnet20", 2).state_dict(), tmp_path / "small.pth")
    with pytest.raises(UserError, match="another architecture"):
        load_into(models.build("resnet50", 2), str(tmp_path / "small.pth"))


def test_a_file_that_is_no_weights_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "noise.pth").write_bytes(b"not weights")
    (tmp_path / "noise.safetensors").write_bytes(b"not weights")
    model = models.build("resnet20", 2)
    for name in ("noise.pth", "noise.safetensors", "missing.pth"):
        with pytest.raises(UserError, match=name):
            load_into(model, str(tmp_path / name))


def test_the_authors_lws_classifier_becomes_a_linear_layer_with_the_same_logits(
    tmp_path: Path,
) -> None:
    donor = models.build("resnet10", 7)
    scale_1C = torch.linspace(0.5, 2, 7)[None]
    classifier = {f"module.fc.{k}": v for k, v in donor.classifier.state_dict().items()}
    nested = {
        "state_dict_best": {
            "feat_model": {f"module.{k}": v for k, v in donor.backbone.state_dict().items()},
            "classifier": {**classifier, "module.learned_norm": scale_1C},
        },
        "best_acc": np.float64(0.5),
    }
    torch.save(nested, tmp_path / "lws.pth")
    model = models.build("resnet10", 7)
    loaded = load_into(model, str(tmp_path / "lws.pth"))
    assert loaded.has_classifier
    assert not loaded.unused
    features_BD = torch.randn(4, 512)
    torch.testing.assert_close(
        model.classifier(features_BD), donor.classifier(features_BD) * scale_1C
    )


def test_published_weights_are_taken_from_the_cache_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    donor = resnet18(weights=None)
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda url, **_: donor.state_dict()
    )
    model = models.build("resnet18", 9)
    loaded = load_into(model, "torchvision:resnet18")
    assert not loaded.has_classifier
    torch.testing.assert_close(model.backbone.conv1.weight, donor.conv1.weight)


def test_weights_that_cannot_be_downloaded_are_named_with_their_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(url: str, **_: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(
        UserError, match=r"could not fetch https://\S+resnet18\S+ .*--init the file"
    ):
        load_into(models.build("resnet18", 9), "torchvision:resnet18")
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        load_into(models.build("resnet18", 9), "torchvision:resnet81")


def test_a_network_of_timms_trains_its_last_stage_and_gives_its_features() -> None:
    pytest.importorskip("timm", reason="needs the timm extra")
    model = models.build("timm:mobilenetv3_small_050", 5)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5)
    model.freeze_all_but("last-block")
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert any(".blocks.5." in name for name in trained)
    assert any("conv_head" in name for name in trained)
    assert not any(".blocks.4." in name for name in trained)
    with pytest.raises(UserError, match="did you mean 'timm:resnet18'"):
        models.build("timm:resnet81", 5)
