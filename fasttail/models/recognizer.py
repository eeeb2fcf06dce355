"""The model of both stages: `classifier(backbone(images))`, kept apart so that stage 2 can tell
them."""

from collections.abc import Callable
from functools import partial
from typing import Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fasttail.errors import unknown
from fasttail.models import timm_backbone
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


class CosineClassifier(nn.Module):
    """Features [B, D] -> `scale` times their cosine with each class's weights, [B, C]: the
    classifier that LDAM's margins are meant for (Cao et al., NeurIPS 2019, appendix)."""

    def __init__(self, in_features: int, num_classes: int, scale: float) -> None:
        super().__init__()
        self.in_features = in_features
        self.scale = scale
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_classes, in_features)))

    def forward(self, features_BD: Tensor) -> Tensor:
        cosine_BC = F.linear(F.normalize(features_BD, dim=1), F.normalize(self.weight, dim=1))
        return self.scale * cosine_BC


class Recognizer(nn.Module):
    """Images [B, 3, H, W] -> logits [B, C]."""

    def __init__(self, backbone: nn.Module, classifier: nn.Linear | CosineClassifier) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self._frozen_batchnorm = "eval"

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.classifier(self.backbone(images_BCHW))

    def train(self, mode: bool = True) -> "Recognizer":
        """As in torch, but a frozen BatchNorm stays in evaluation: its statistics rest, unless
        `freeze_all_but` was told otherwise."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm) and not module.weight.requires_grad:
                module.train(mode and self._frozen_batchnorm == "train")
        return self

    def freeze_all_but(self, trained: str, batchnorm: str = "eval") -> None:
        """Leaves gradients on for what `trained` names: "all", "last-block" (the backbone's last
        stage and the classifier: the Places-LT recipe), or "classifier". With `batchnorm` "train"
        the BatchNorm of what is frozen takes its batches' statistics all the same."""
        self._frozen_batchnorm = batchnorm
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


def check(name: str, px: int) -> None:
    """`UserError` if there is no backbone of that name, or it takes no images of `px` pixels."""
    _check_name(name)
    if name.startswith(timm_backbone.PREFIX):
        timm_backbone.check_px(name, px)


def _check_name(name: str) -> None:
    if name.startswith(timm_backbone.PREFIX):
        timm_backbone.check_name(name)
    elif name not in BACKBONES:
        raise unknown("backbone", name, [*BACKBONES, "timm:NAME"])


def build(name: str, num_classes: int, *, cosine_scale: float | None = None) -> Recognizer:
    """A recognizer with fresh weights: a linear classifier, or with `cosine_scale` a cosine one.

    Raises `UserError` if there is no backbone of that name.
    """
    _check_name(name)
    if name.startswith(timm_backbone.PREFIX):
        backbone = timm_backbone.TimmBackbone(name)
    else:
        backbone = BACKBONES[name]()
    dim = cast(Backbone, backbone).features_dim
    if cosine_scale is None:
        return Recognizer(backbone, nn.Linear(dim, num_classes))
    return Recognizer(backbone, CosineClassifier(dim, num_classes, cosine_scale))
