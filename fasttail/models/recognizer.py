"""The model of both stages: `classifier(backbone(images))`, kept apart so that stage 2 can tell
them."""

from collections.abc import Callable
from functools import partial
from typing import Protocol, cast, runtime_checkable

from torch import Tensor, nn

from fasttail.errors import unknown
from fasttail.models.cifar_resnet import CifarResNet
from fasttail.models.imagenet_resnet import SHAPES, ImageNetResNet


@runtime_checkable
class Backbone(Protocol):
    """A module from images [B, 3, H, W] to features [B, features_dim]."""

    features_dim: int

    @property
    def last_block(self) -> nn.Module: ...


CIFAR_DEPTHS = (20, 32, 44, 56)

BACKBONES: dict[str, Callable[[], nn.Module]] = {
    **{f"resnet{depth}": partial(CifarResNet, depth) for depth in CIFAR_DEPTHS},
    **{name: partial(ImageNetResNet, name) for name in SHAPES},
}


class Recognizer(nn.Module):
    """Images [B, 3, H, W] -> logits [B, C]."""

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        features_dim = cast(Backbone, backbone).features_dim
        self.classifier = nn.Linear(features_dim, num_classes)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.classifier(self.backbone(images_BCHW))

    def train(self, mode: bool = True) -> "Recognizer":
        """As in torch, but a frozen BatchNorm keeps to evaluation: its statistics don't move."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return self

    def freeze_all_but(self, trained: str) -> None:
        """Leaves gradients on for what `trained` names: "all", "last-block" (the backbone's last
        stage and the classifier: the Places-LT recipe), or "classifier"."""
        parts: dict[str, list[nn.Module]] = {
            "all": [self],
            "last-block": [cast(Backbone, self.backbone).last_block, self.classifier],
            "classifier": [self.classifier],
        }
        if trained not in parts:
            raise unknown("part to train", trained, parts)
        self.requires_grad_(False)
        for part in parts[trained]:
            part.requires_grad_(True)


def check_name(name: str) -> None:
    """`UserError` if there is no backbone of that name."""
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES)


def build(name: str, num_classes: int) -> Recognizer:
    """A recognizer with fresh weights. `UserError` if there is no backbone of that name."""
    check_name(name)
    return Recognizer(BACKBONES[name](), num_classes)
