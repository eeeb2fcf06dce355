"""A small network without BatchNorm, whose gradients are sums over images: what it learns does not
depend on how many processes share a batch. Run as a program, it is `fasttail` with this network."""

import torch
from torch import Tensor, nn

from fasttail.models import recognizer

NAME = "plain"


class Plain(nn.Module):
    """Images [B, 3, H, W] -> features [B, 16]."""

    features_dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, 2, padding=1)

    @property
    def last_block(self) -> nn.Module:
        return self.conv2

    def forward(self, images_BCHW: Tensor) -> Tensor:
        x = torch.tanh(self.conv2(torch.tanh(self.conv1(images_BCHW))))
        return x.amax((2, 3))


def register() -> None:
    """Makes the network known by its name."""
    recognizer.BACKBONES[NAME] = Plain


if __name__ == "__main__":
    from fasttail.cli import main

    register()
    main()
