from pathlib import Path

import pytest
import torch
import torchvision
from torchvision.models import resnet18, resnet50, resnext50_32x4d

from fasttail import models
from fasttail.errors import UserError
from fasttail.models.weights import load_into


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_cifar_resnets_are_of_the_papers_size(depth: int, millions: float) -> None:
    # He et al. 2016, table 6
    model = models.build(f"resnet{depth}", 10)
    assert round(parameters(model) / 1e6, 2) == millions


def test_a_cifar_resnet_has_as_many_layers_as_its_name_says() -> None:
    model = models.build("resnet32", 10)
    layers = [m for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(layers) == 32  # option A shortcuts have no weights


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("resnet18", resnet18), ("resnet50", resnet50), ("resnext50", resnext50_32x4d)],
)
def test_imagenet_backbones_compute_what_torchvisions_do(name: str, theirs) -> None:
    reference = theirs(weights=None).eval()
    model = models.build(name, 1000).eval()
    backbone = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    model.backbone.load_state_dict(backbone)
    model.classifier.load_state_dict(reference.fc.state_dict())
    images = torch.randn(2, 3, 96, 80)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images))


def test_resnet10_has_one_block_a_stage() -> None:
    backbone = models.build("resnet10", 5).backbone
    assert [len(getattr(backbone, f"layer{i}")) for i in (1, 2, 3, 4)] == [1, 1, 1, 1]
    assert backbone(torch.randn(1, 3, 64, 64)).shape == (1, 512)


def test_last_block_training_leaves_the_rest_and_its_statistics_alone() -> None:
    model = models.build("resnet20", 4)
    model.freeze_all_but("last-block")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    model(torch.randn(8, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("backbone.layer3.", "classifier.")) for name in changed)


@pytest.mark.parametrize(
    ("name", "px", "takes"),
    [
        ("vit_tiny_patch16_224", 224, True),
        ("vit_tiny_patch16_224", 32, False),
        ("levit_128s", 192, False),
        ("mobilenetv3_small_050", 32, True),
    ],
)
def test_a_network_that_takes_images_of_one_size_says_so_before_it_is_made(
    name: str, px: int, takes: bool
) -> None:
    pytest.importorskip("timm", reason="needs the timm extra")
    if takes:
        models.check(f"timm:{name}", px)
        return
    with pytest.raises(UserError, match=rf"timm:{name} takes no images of {px} px.*--px 224"):
        models.check(f"timm:{name}", px)


def test_an_unknown_backbone_names_the_choices() -> None:
    with pytest.raises(UserError, match=r"did you mean 'resnext50'.*resnet20.*resnext152"):
        models.build("resnxt50", 10)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
def test_a_network_of_torchvisions_gives_what_its_last_layer_gets(
    tmp_path: Path, name: str
) -> None:
    donor = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    torch.save(donor.state_dict(), tmp_path / "theirs.pth")
    model = models.build(f"torchvision:{name}", 7).eval()
    loaded = load_into(model, str(tmp_path / "theirs.pth"))
    assert loaded.missing == loaded.unused == loaded.other_shape == ()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), donor(images))


def test_published_networks_say_what_they_expect_of_images() -> None:
    v1, v2 = (
        models.expected(f"torchvision:{name}")
        for name in ("resnet50", "ResNet50_Weights.IMAGENET1K_V2")
    )
    assert v1 is not None
    assert v2 is not None
    assert (v1.px, v1.resize_px, v1.interpolation) == (224, 256, "bilinear")
    assert (v2.px, v2.resize_px) == (224, 232)
    assert v1.settings(112)["data.resize_px"] == 128
    assert models.expected("resnet50") is None
    with pytest.raises(UserError, match="no linear classifier"):
        models.check("torchvision:squeezenet1_0", 64)
    with pytest.raises(UserError, match=r"takes no images of 64 px: .*--px 224"):
        models.check("torchvision:vit_b_16", 64)
    with pytest.raises(UserError, match=r"nearest of [0-9,]+ are torchvision:resnet18, "):
        models.check("torchvision:resnet81", 64)
