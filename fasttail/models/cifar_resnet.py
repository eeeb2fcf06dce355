"""The CIFAR form of ResNet: He et al., "Deep Residual Learning for Image Recognition", section 4.2.

A 3x3 stem, three stages of n blocks with 16, 32 and 64 channels at 32, 16 and 8 px, 6n+2 layers.
Shortcuts that change the shape are "option A": every other pixel, new channels zero, no weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fasttail.errors import UserError


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: [B, C_in, H, W] -> [B, C_out, H/stride, W/stride]."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        self.new_channels = channels_out - channels_in

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x_BCHW)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self._shortcut(x_BCHW), inplace=True)

    def _shortcut(self, x_BCHW: Tensor) -> Tensor:
        if self.stride == 1 and self.new_channels == 0:
            return x_BCHW
        x = x_BCHW[:, :, :: self.stride, :: self.stride]
        before = self.new_channels // 2
        return F.pad(x, (0, 0, 0, 0, before, self.new_channels - before))


class CifarResNet(nn.Module):
    """Images [B, 3, 32, 32] -> features [B, 64]; `depth` is 6n+2: 20, 32, 44, 56, 110."""

    features_dim = 64

    def __init__(self, depth: int) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise UserError(f"a CIFAR ResNet has 6n+2 layers, not {depth}: choose 20, 32, 44 or 56")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(blocks)))
        self.layer2 = nn.Sequential(
            Block(16, 32, 2), *(Block(32, 32, 1) for _ in range(blocks - 1))
        )
        self.layer3 = nn.Sequential(
            Block(32, 64, 2), *(Block(64, 64, 1) for _ in range(blocks - 1))
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    @property
    def last_block(self) -> nn.Module:
        """What "last-block" training trains of the backbone."""
        return self.layer3

    def forward(self, images_BCHW: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images_BCHW)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
