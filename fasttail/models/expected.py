"""What a published network expects of its images, by those who trained it."""

from dataclasses import dataclass
from typing import Any, Literal

USED = "bilinear"  # what every engine resizes by: a triangle filter that grows with the scale


@dataclass(frozen=True)
class Expected:
    """The view and the normalisation of a network, as `source` has them. `interpolation` is what it
    was trained with; here images are resized by `USED` whatever it says."""

    source: str
    px: int
    resize_px: int
    view: Literal["center", "whole"]
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def settings(self, px: int | None = None) -> dict[str, Any]:
        """As keys of the configuration; for images of another size with the same crop share."""
        px = px or self.px
        return {
            "data.px": px,
            "data.resize_px": max(px, round(px * self.resize_px / self.px)),
            "data.eval_view": self.view,
            "data.train_view": "random-resized-crop",
            "data.mean": self.mean,
            "data.std": self.std,
        }
