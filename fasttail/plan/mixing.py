"""Mixup and CutMix: which image is mixed into which, by how much and where; applied later.

Mixup (Zhang et al., ICLR 2018) takes `share` of an image and the rest of its partner; CutMix (Yun
et al., ICCV 2019) puts a box of the partner into it. Both draw the share from Beta(alpha, alpha).

Positions 2k and 2k + 1 of an epoch are each other's partners, and each of the two has a share and a
box of its own. Orders are random, so a partner is a random image of the batch. A pair is never
parted by ranks, which have an even number of images each, and is in one step, in however many parts
that is computed: the images that are mixed are the same.
"""

import math
from dataclasses import dataclass

import numpy as np

from fasttail.errors import UserError
from fasttail.plan.compiled import inline, kernel
from fasttail.plan.floats import power
from fasttail.plan.random import below, key, unit, words

_TRIES = 16  # of two draws each; at worst, with alpha 1, half of the draws fail


@dataclass(frozen=True)
class Mix:
    """How the B images of a rank's share of a batch are mixed.

    Image b becomes `blends_B[b]` of itself and the rest of image `partners_B[b]`; within its box
    (top, left, height, width, in pixels of the output) it is the partner's alone. Then
    `shares_B[b]` of it is its own: so much its label counts, and its partner's the rest.
    """

    partners_B: np.ndarray  # int64 [B], places in this share of the batch
    blends_B: np.ndarray  # float32 [B]
    boxes_B4: np.ndarray  # int32 [B, 4]
    shares_B: np.ndarray  # float32 [B]


@dataclass(frozen=True)
class Mixing:
    """What is mixed: a share `p` of the images, by mixup where its alpha is above 0, by CutMix
    where that one's is, by one or the other, as likely, where both are. Alphas are 0..1."""

    mixup_alpha: float
    cutmix_alpha: float
    p: float

    def at(self, seed: int, epoch: int, first: int, count: int, out_hw: tuple[int, int]) -> Mix:
        """The mix of positions first .. first + count - 1 of an epoch, which are whole pairs."""
        mix = Mix(
            np.empty(count, dtype=np.int64),
            np.empty(count, dtype=np.float32),
            np.empty((count, 4), dtype=np.int32),
            np.empty(count, dtype=np.float32),
        )
        draw_mixes(
            first, key("mix", seed, epoch), float(self.p), float(self.mixup_alpha),
            float(self.cutmix_alpha), *out_hw, mix.partners_B, mix.blends_B, mix.boxes_B4,
            mix.shares_B,
        )  # fmt: skip
        return mix


def check_pairs(batch_size: int, world_size: int) -> None:
    """`UserError` if a rank's share of a batch is no whole number of pairs."""
    if batch_size % (2 * world_size):
        low = max(1, batch_size // (2 * world_size)) * 2 * world_size
        raise UserError(
            f"batch size {batch_size} can't be mixed in pairs on {world_size} ranks: take a "
            f"multiple of {2 * world_size}, {low} or {low + 2 * world_size}, or leave out mix"
        )


@inline
def _beta(alpha, stream, position):
    """A draw from Beta(alpha, alpha), 0 < alpha <= 1 (Joehnk, "Erzeugung von betaverteilten und
    gammaverteilten Zufallszahlen", 1964)."""
    for block in range(1, 1 + _TRIES):
        drawn = words(stream, position, block)
        for i in (0, 2):
            u, v = unit(drawn[i]), unit(drawn[i + 1])
            x, y = power(u, 1.0 / alpha), power(v, 1.0 / alpha)
            if x + y == 0.0:  # too small for a float: so is the smaller beside the larger
                return 1.0 if u > v else 0.0
            if x + y <= 1.0:
                return x / (x + y)
    return 0.5


@kernel
def draw_mixes(
    first, stream, p, mixup_alpha, cutmix_alpha, out_h, out_w, partners_B, blends_B, boxes_B4,
    shares_B,
):  # fmt: skip
    for b in range(len(partners_B)):
        w0, w1, w2, w3 = words(stream, first + b, 0)
        partners_B[b] = ((first + b) ^ 1) - first
        blends_B[b], shares_B[b], boxes_B4[b] = 1.0, 1.0, 0
        if unit(w0) >= p:
            continue
        if cutmix_alpha > 0.0 and (mixup_alpha <= 0.0 or unit(w1) < 0.5):
            side = math.sqrt(1.0 - _beta(cutmix_alpha, stream, first + b))
            height, width = np.int64(np.rint(out_h * side)), np.int64(np.rint(out_w * side))
            # Around a centre that is uniform, and cut at the edges.
            top, left = below(w2, out_h) - height // 2, below(w3, out_w) - width // 2
            bottom, right = min(top + height, out_h), min(left + width, out_w)
            top, left = max(top, 0), max(left, 0)
            boxes_B4[b, 0], boxes_B4[b, 1] = top, left
            boxes_B4[b, 2], boxes_B4[b, 3] = bottom - top, right - left
            shares_B[b] = 1.0 - (bottom - top) * (right - left) / (out_h * out_w)
        elif mixup_alpha > 0.0:
            blends_B[b] = shares_B[b] = _beta(mixup_alpha, stream, first + b)
