"""The model of both stages: `classifier(backbone(images))`, kept apart so that stage 2 can tell
them."""

from collections.abc import Callable
from functools import partial
from typing import Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fasttail.errors import UserError, unknown
from fasttail.models import timm_backbone, torchvision_backbone
from fasttail.models.cifar_resnet import CifarResNet
from fasttail.models.expected import Expected
from fasttail.models.imagenet_resnet import SHAPES, ImageNetResNet
from fasttail.models.timm_backbone import TimmBackbone
from fasttail.models.torchvision_backbone import TorchvisionBackbone


@runtime_checkable
class Backbone(Protocol):
    """A module from images [B, 3, H, W] to features [B, features_dim]."""

    features_dim: int

    @property
    def last_block(self) -> nn.Module: ...


LIBRARIES = {timm_backbone.PREFIX: TimmBackbone, torchvision_backbone.PREFIX: TorchvisionBackbone}

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
    """`UserError` if there is no backbone of that name, or it takes no images of `px` pixels, as
    most transformers take only one size."""
    check_name(name)
    network = _without_weights(name)
    if network is None:
        return
    with torch.device("meta"), torch.no_grad():  # computes nothing
        try:
            network.eval()(torch.empty(1, 3, px, px))
        except (AssertionError, RuntimeError):
            own_px = network.expected.px
            raise UserError(
                f"{name} takes no images of {px} px: it is made for {own_px} (--px {own_px})"
            ) from None


def check_name(name: str) -> None:
    """`UserError` if there is no backbone of that name."""
    library = _library(name)
    if library is not None:
        library.check_name(name)
    elif name not in BACKBONES:
        raise unknown("backbone", name, [*BACKBONES, *(f"{prefix}NAME" for prefix in LIBRARIES)])


def expected(name: str) -> Expected | None:
    """What the weights that a library publishes under a name expect of images; None of a network of
    fasttail's own, which is trained on whatever its shards have."""
    network = _without_weights(name)
    return None if network is None else network.expected


def _library(name: str) -> type[TimmBackbone] | type[TorchvisionBackbone] | None:
    return next((of for prefix, of in LIBRARIES.items() if name.startswith(prefix)), None)


def _without_weights(name: str) -> TimmBackbone | TorchvisionBackbone | None:
    """A library's network that takes no memory."""
    library = _library(name)
    if library is None:
        return None
    with torch.device("meta"):
        return library(name)


def build(name: str, num_classes: int, *, cosine_scale: float | None = None) -> Recognizer:
    """A recognizer with fresh weights: a linear classifier, or with `cosine_scale` a cosine one.

    Raises `UserError` if there is no backbone of that name.
    """
    check_name(name)
    library = _library(name)
    backbone = BACKBONES[name]() if library is None else library(name)
    dim = cast(Backbone, backbone).features_dim
    if cosine_scale is None:
        return Recognizer(backbone, nn.Linear(dim, num_classes))
    return Recognizer(backbone, CosineClassifier(dim, num_classes, cosine_scale))
