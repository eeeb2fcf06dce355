"""A view: how an image is looked at. Which boxes are drawn, how often flipped, how jittered."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fasttail.errors import UserError
from fasttail.plan import boxes
from fasttail.plan.contract import Jitter
from fasttail.plan.jitter import jitters, ranges
from fasttail.plan.random import key

Strengths = tuple[float, float, float, float]  # brightness, contrast, saturation, hue
Size = int | tuple[int, int]  # of the output in pixels: of a square, or height and width
_MAX_RATIO = 50.0


@dataclass(frozen=True)
class View:
    """Made by `random_resized_crop`, `random_crop`, `center` or `whole`. Sizes are in pixels;
    `out_px` is the side of a square, or height and width.

    A view that makes no sense raises `UserError`.
    """

    kind: Literal["random_resized_crop", "random_crop", "center", "whole"]
    out_hw: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    padding: int = 0
    resize_px: int = 1
    flip_p: float = 0.0
    jitter: Strengths | None = None

    @staticmethod
    def random_resized_crop(
        out_px: Size,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        flip_p: float,
        jitter: Strengths | None = None,
    ) -> "View":
        """A part of the image, `scale` of its area (0..1), `ratio` wide to high, resized."""
        return View(
            "random_resized_crop",
            _hw(out_px),
            scale=scale,
            ratio=ratio,
            flip_p=flip_p,
            jitter=jitter,
        )

    @staticmethod
    def random_crop(
        out_px: Size, padding: int, flip_p: float, jitter: Strengths | None = None
    ) -> "View":
        """A part of the image with `padding` black pixels around it, not resized."""
        return View("random_crop", _hw(out_px), padding=padding, flip_p=flip_p, jitter=jitter)

    @staticmethod
    def center(out_px: Size, resize_px: int) -> "View":
        """The middle of the image, as if its shorter side had been resized to `resize_px`."""
        return View("center", _hw(out_px), resize_px=resize_px)

    @staticmethod
    def whole(out_px: Size) -> "View":
        """The whole image, resized, its proportions not kept."""
        return View("whole", _hw(out_px))

    def __post_init__(self) -> None:
        def need(fine: bool, what: str) -> None:
            if not fine:
                raise UserError(f"view {self.kind!r}: {what}")

        need(min(self.out_hw) >= 1, f"out_px is {self.out_hw}, must be 1 or more")
        need(0 <= self.flip_p <= 1, f"flip_p is {self.flip_p}, must be 0 to 1")
        need(self.padding >= 0, f"padding is {self.padding}, must be 0 or more")
        lo, hi = self.scale
        need(0 < lo <= hi <= 1, f"scale is {lo}..{hi}, must rise within 0..1")
        lo, hi = self.ratio
        need(
            1 / _MAX_RATIO <= lo <= hi <= _MAX_RATIO,
            f"ratio is {lo}..{hi}, must rise within 1/{_MAX_RATIO:g}..{_MAX_RATIO:g}",
        )
        if self.kind == "center":
            need(
                self.resize_px >= max(self.out_hw),
                f"resize_px is {self.resize_px}, must be out_px {self.out_hw} or more",
            )
        if self.jitter is not None:
            need(
                len(self.jitter) == 4
                and all(math.isfinite(s) and s >= 0 for s in self.jitter)
                and self.jitter[3] <= 0.5,
                f"jitter is {self.jitter}: brightness, contrast and saturation must be 0 or more, "
                "hue 0 to 0.5",
            )

    def at(self, seed: int, epoch: int) -> "Draw":
        """What this view draws in one epoch."""
        return Draw(
            self, key("box", seed, epoch), key("flip", seed, epoch), key("jitter", seed, epoch)
        )


def _hw(out_px: Size) -> tuple[int, int]:
    return (out_px, out_px) if isinstance(out_px, int) else out_px


@dataclass(frozen=True)
class Draw:
    """A view in one epoch: functions of the position, each with a stream of its own, so that the
    crops stay what they are when flips or jitter are switched off."""

    view: View
    box_key: np.uint64
    flip_key: np.uint64
    jitter_key: np.uint64

    def boxes(self, first: int, heights_B: np.ndarray, widths_B: np.ndarray) -> np.ndarray:
        """The boxes at positions first, first + 1, ... of the epoch, int32 [B, 4], for stored
        images of these heights and widths, int32 [B]."""
        view = self.view
        if view.kind == "center":
            return boxes.center(heights_B, widths_B, view.out_hw, view.resize_px)
        if view.kind == "whole":
            return boxes.whole(heights_B, widths_B)
        boxes_B4 = np.empty((len(heights_B), 4), dtype=np.int32)
        sizes = heights_B, widths_B, boxes_B4
        if view.kind == "random_crop":
            boxes.random_crops(first, self.box_key, *view.out_hw, view.padding, *sizes)
        else:
            scale_lo, scale_hi = map(float, view.scale)
            ratio_lo, ratio_hi = map(math.log, view.ratio)
            boxes.random_resized_crops(
                first, self.box_key, scale_lo, scale_hi, ratio_lo, ratio_hi, *sizes
            )
        return boxes_B4

    def flips(self, first: int, count: int) -> np.ndarray:
        """Which of the positions first .. first + count - 1 are mirrored, bool [B]."""
        flips_B = np.zeros(count, dtype=np.bool_)
        if self.view.flip_p > 0:
            boxes.flips(first, self.flip_key, float(self.view.flip_p), flips_B)
        return flips_B

    def jitters(self, first: int, count: int) -> Jitter | None:
        """The colour jitter of the positions first .. first + count - 1, or None."""
        strengths = self.view.jitter
        if strengths is None or not any(strengths):
            return None
        factors_B4 = np.empty((count, 4), dtype=np.float32)
        order_B4 = np.empty((count, 4), dtype=np.uint8)
        jitters(first, self.jitter_key, *ranges(strengths), factors_B4, order_B4)
        return Jitter(factors_B4, order_B4)
