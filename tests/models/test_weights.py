from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
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


class TheirScaledClassifier(nn.Module):
    """LWS as the authors save it: a linear layer whose outputs are multiplied by a parameter."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.fc = nn.Linear(512, 7)
        self.name = name
        self.register_parameter(name, nn.Parameter(torch.linspace(0.5, 2, 7)))

    def forward(self, features_BD: torch.Tensor) -> torch.Tensor:
        return self.fc(features_BD) * self.get_parameter(self.name)


@pytest.mark.parametrize("name", ["scales", "learned_norm"])
def test_the_authors_lws_classifier_becomes_a_linear_layer_with_the_same_logits(
    tmp_path: Path, name: str
) -> None:
    networks = {
        "feat_model": nn.DataParallel(models.build("resnet10", 7).backbone),
        "classifier": nn.DataParallel(TheirScaledClassifier(name)),
    }
    best = {key: network.state_dict() for key, network in networks.items()}
    assert f"module.{name}" in best["classifier"]
    whole = {"epoch": 5, "state_dict_best": best, "best_acc": np.float64(0.5)}
    torch.save(whole, tmp_path / "lws.pth")
    model = models.build("resnet10", 7)
    loaded = load_into(model, str(tmp_path / "lws.pth"))
    assert loaded.has_classifier
    assert not loaded.unused
    features_BD = torch.randn(4, 512)
    expected_BC = networks["classifier"].module(features_BD)
    torch.testing.assert_close(model.classifier(features_BD), expected_BC)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("mobilenetv3_small_050", ".pth"),
        ("convnext_atto", ".safetensors"),
        ("vit_tiny_patch16_224", ".safetensors"),
    ],
)
def test_a_file_of_timms_own_names_fits_its_network_with_its_classifier(
    tmp_path: Path, name: str, suffix: str
) -> None:
    timm = pytest.importorskip("timm", reason="needs the timm extra")
    donor, path = timm.create_model(name, pretrained=False, num_classes=5), tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(donor.state_dict(), path)
    model = models.build(f"timm:{name}", 5)
    loaded = load_into(model, str(path))
    assert loaded.missing == loaded.unused == loaded.other_shape == ()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(images), donor.eval()(images))
    # A run's own file has the names of this package.
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert not load_into(models.build(f"timm:{name}", 5), str(tmp_path)).missing


def test_timms_weights_by_name_are_those_of_the_file_that_stands_in_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm", reason="needs the timm extra")
    create, name = timm.create_model, "mobilenetv3_small_050"
    donor = create(name, pretrained=False, num_classes=1000)
    torch.save(donor.state_dict(), tmp_path / "fetched.pth")

    def cached(name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
        network = create(name, pretrained=False, num_classes=num_classes)
        if pretrained:
            network.load_state_dict(donor.state_dict(), strict=False)
        return network

    monkeypatch.setattr(timm, "create_model", cached)
    by_name, by_file = models.build(f"timm:{name}", 5), models.build(f"timm:{name}", 5)
    fresh = by_file.classifier.weight.clone()
    assert not load_into(by_name, f"timm:{name}").has_classifier
    assert not load_into(by_file, str(tmp_path / "fetched.pth")).has_classifier
    for key, value in by_name.backbone.state_dict().items():
        torch.testing.assert_close(by_file.backbone.state_dict()[key], value)
    torch.testing.assert_close(by_file.classifier.weight, fresh)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not readable as a torch file: EOFError"),
        (b"text", "not readable as a torch file: "),
        ({}, "It holds no tensor"),
        ({"model": {}}, "It holds no tensor"),
        ({1: torch.zeros(2)}, "It holds backbone.1"),
        ("within itself", "not readable as a torch file: RecursionError"),
        ("sparse", "It holds no tensor"),
        ("scales", "7 factors do not fit its classifier"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
def test_a_file_without_weights_is_one_line(tmp_path: Path, content: object, said: str) -> None:
    model, path = models.build("resnet20", 3), tmp_path / "x.pth"
    own = model.state_dict()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "within itself":
        loop: dict[str, object] = {}
        loop["again"] = loop
        torch.save(loop, path)
    elif content == "sparse":
        torch.save({"a": torch.ones(2, 2).to_sparse()}, path)
    elif content == "scales":
        torch.save({**own, "classifier.scales": torch.ones(7)}, path)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=said) as caught:
        load_into(model, str(path))
    assert "x.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


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
    with pytest.raises(UserError, match=r"nearest of [0-9,]+ are resnet18, "):
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
    with pytest.raises(UserError, match=r"nearest of [0-9,]+ are timm:resnet18, "):
        models.build("timm:resnet81", 5)
