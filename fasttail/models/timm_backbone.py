"""Any network of the timm library as a backbone: `timm:NAME` (extra `[timm]`)."""

import math
from typing import Any

from torch import Tensor, nn

from fasttail.errors import MissingExtra, unknown
from fasttail.models.expected import Expected

PREFIX = "timm:"


class TimmBackbone(nn.Module):
    """Images [B, 3, H, W] -> features [B, features_dim], pooled as timm's classifier gets them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = import_timm(name).create_model(
            name.removeprefix(PREFIX), pretrained=False, num_classes=0
        )
        self.features_dim: int = self.network.head_hidden_size

    @staticmethod
    def check_name(name: str) -> None:
        """Raises `MissingExtra` without timm, and `UserError` if it has no network of that name."""
        timm = import_timm(name)
        if not timm.is_model(name.removeprefix(PREFIX)):
            raise unknown("backbone", name, [PREFIX + model for model in timm.list_models()])

    @property
    def expected(self) -> Expected:
        """As timm's `pretrained_cfg` says: a shorter side of px / crop_pct before the crop."""
        given = self.network.pretrained_cfg
        px = given["input_size"][-1]
        whole = given["crop_mode"] == "squash" and given["crop_pct"] == 1
        return Expected(
            "timm's pretrained_cfg",
            px=px,
            resize_px=math.floor(px / given["crop_pct"]),
            view="whole" if whole else "center",
            interpolation=given["interpolation"],
            mean=tuple(given["mean"]),
            std=tuple(given["std"]),
        )

    @property
    def heads(self) -> tuple[str, ...]:
        """What the names of timm's own classifier begin with, which this backbone has not."""
        names: str | tuple[str, ...] = self.network.default_cfg["classifier"]
        return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))

    @property
    def last_block(self) -> nn.Module:
        """What "last-block" training trains: timm's last feature stage and whatever follows it."""
        stage: str = self.network.feature_info[-1]["module"]
        children = dict(self.network.named_children())
        following = list(children)[list(children).index(stage.split(".")[0]) + 1 :]
        return nn.ModuleList(
            [self.network.get_submodule(stage), *(children[name] for name in following)]
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.network(images_BCHW)


def import_timm(feature: str) -> Any:
    """The library, imported only where it is asked for. `MissingExtra` if it is not there."""
    try:
        import timm
    except ImportError:
        raise MissingExtra(feature, "timm", "timm") from None
    return timm
