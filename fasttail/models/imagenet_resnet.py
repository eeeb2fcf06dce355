"""Torchvision's ResNets and ResNeXts as feature extractors, and the ResNet-10 of the paper.

ResNet-10 (one basic block a stage) is what Liu et al. (OLTR, CVPR 2019) and Kang et al. (2020) use
on ImageNet-LT; the 32x4d ResNeXts of 101 and 152 layers, which torchvision lacks, are built from
its blocks.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

Shape = tuple[type[BasicBlock | Bottleneck], list[int], dict[str, Any]]

SHAPES: dict[str, Shape] = {
    "resnet10": (BasicBlock, [1, 1, 1, 1], {}),
    "resnet18": (BasicBlock, [2, 2, 2, 2], {}),
    "resnet34": (BasicBlock, [3, 4, 6, 3], {}),
    "resnet50": (Bottleneck, [3, 4, 6, 3], {}),
    "resnet101": (Bottleneck, [3, 4, 23, 3], {}),
    "resnet152": (Bottleneck, [3, 8, 36, 3], {}),
    "resnext50": (Bottleneck, [3, 4, 6, 3], {"groups": 32, "width_per_group": 4}),
    "resnext101": (Bottleneck, [3, 4, 23, 3], {"groups": 32, "width_per_group": 4}),
    "resnext152": (Bottleneck, [3, 8, 36, 3], {"groups": 32, "width_per_group": 4}),
}


class ImageNetResNet(ResNet):
    """Images [B, 3, H, W] -> features [B, features_dim], with torchvision's parameter names."""

    def __init__(self, name: str) -> None:
        block, layers, options = SHAPES[name]
        super().__init__(block, layers, num_classes=1, **options)
        self.features_dim = 512 * block.expansion
        self.fc = nn.Identity()

    @property
    def last_block(self) -> nn.Module:
        """What "last-block" training trains of the backbone."""
        return self.layer4

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.flatten(self.avgpool(x), 1)
