"""Boxes: which part of the stored image becomes a sample. (top, left, height, width), int32.

A box depends on its key, the position in the epoch and the image's size, on nothing else. The same
arithmetic, operation by operation, on every machine.
"""

import math

import numpy as np

from fasttail.plan.compiled import kernel
from fasttail.plan.floats import exp
from fasttail.plan.random import below, unit, words

TRIES = 10  # as in torchvision


@kernel
def random_resized_crops(
    first, key, scale_lo, scale_hi, log_ratio_lo, log_ratio_hi, heights_B, widths_B, boxes_B4
):
    """RandomResizedCrop in torchvision's distribution, for positions first, first + 1, ...

    A part of the area uniform in [scale_lo, scale_hi], a width-to-height ratio log-uniform in its
    range, the place uniform; where that doesn't fit ten times in a row, the largest centred box
    with a ratio inside the range.
    """
    for b in range(len(heights_B)):
        height, width = np.int64(heights_B[b]), np.int64(widths_B[b])
        area = np.float64(height) * np.float64(width)
        done = False
        for block in range(TRIES):
            w0, w1, w2, w3 = words(key, first + b, block)
            target = area * (scale_lo + (scale_hi - scale_lo) * unit(w0))
            ratio = exp(log_ratio_lo + (log_ratio_hi - log_ratio_lo) * unit(w1))
            w = np.int64(np.rint(math.sqrt(target * ratio)))
            h = np.int64(np.rint(math.sqrt(target / ratio)))
            if 0 < w <= width and 0 < h <= height:
                boxes_B4[b, 0] = below(w2, height - h + 1)
                boxes_B4[b, 1] = below(w3, width - w + 1)
                boxes_B4[b, 2] = h
                boxes_B4[b, 3] = w
                done = True
                break
        if not done:
            ratio_lo, ratio_hi = exp(log_ratio_lo), exp(log_ratio_hi)
            h, w = height, width
            if width < height * ratio_lo:
                h = min(height, max(1, np.int64(np.rint(width / ratio_lo))))
            elif width > height * ratio_hi:
                w = min(width, max(1, np.int64(np.rint(height * ratio_hi))))
            boxes_B4[b, 0] = (height - h) // 2
            boxes_B4[b, 1] = (width - w) // 2
            boxes_B4[b, 2] = h
            boxes_B4[b, 3] = w


@kernel
def random_crops(first, key, out_h, out_w, padding, heights_B, widths_B, boxes_B4):
    """Boxes of `out_h` x `out_w` pixels, uniform over the image with `padding` pixels of black
    around it: top and left may be negative. An image too small even so is centred in its box."""
    for b in range(len(heights_B)):
        w0, w1, _, _ = words(key, first + b, 0)
        spare_h = np.int64(heights_B[b]) + 2 * padding - out_h
        spare_w = np.int64(widths_B[b]) + 2 * padding - out_w
        boxes_B4[b, 0] = (below(w0, spare_h + 1) if spare_h >= 0 else spare_h // 2) - padding
        boxes_B4[b, 1] = (below(w1, spare_w + 1) if spare_w >= 0 else spare_w // 2) - padding
        boxes_B4[b, 2] = out_h
        boxes_B4[b, 3] = out_w


@kernel
def flips(first, key, probability, flips_B):
    """True with the given probability, for positions first, first + 1, ..."""
    for b in range(len(flips_B)):
        w0, _, _, _ = words(key, first + b, 0)
        flips_B[b] = unit(w0) < probability


def center(
    heights_B: np.ndarray, widths_B: np.ndarray, out_hw: tuple[int, int], resize_px: int
) -> np.ndarray:
    """Shorter side to `resize_px`, then the middle `out_hw`: as one box of the stored image, int32
    [B, 4], whose sides are out_hw / resize_px of the image's shorter side.

    torchvision rounds twice (the longer side after resizing, then the crop's corner), and here the
    box is whole pixels: each edge lies within one pixel of the output, plus one stored pixel, of
    where theirs is (`tests/plan/test_boxes.py`).
    """
    heights_B, widths_B = heights_B.astype(np.int64), widths_B.astype(np.int64)
    short_B = np.minimum(heights_B, widths_B)
    box_h_B, box_w_B = (
        np.maximum((2 * short_B * out_px + resize_px) // (2 * resize_px), 1) for out_px in out_hw
    )
    boxes = [(heights_B - box_h_B) // 2, (widths_B - box_w_B) // 2, box_h_B, box_w_B]
    return np.stack(boxes, axis=1).astype(np.int32)


def whole(heights_B: np.ndarray, widths_B: np.ndarray) -> np.ndarray:
    """The entire image, int32 [B, 4]."""
    zeros_B = np.zeros(len(heights_B), dtype=np.int32)
    return np.stack([zeros_B, zeros_B, heights_B, widths_B], axis=1).astype(np.int32)
