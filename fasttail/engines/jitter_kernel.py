"""`augment` with jitter on a GPU in two passes over the batch, as Triton kernels.

    sums      reads uint8; the grey of each image, as it is when its contrast's turn comes
    finish    reads uint8, writes the normalised result

`augment.py` has the same arithmetic in torch, which takes a pass or more for every operation. Both
passes compute a pixel from its stored value, so nothing in between goes through memory.
"""

# Triton's language is no Python that a type checker knows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

import torch
import triton
import triton.language as tl

from fasttail.engines.base import Jitter
from fasttail.engines.upload import to_device

BLOCK = 1024  # pixels that a program has in registers


@triton.jit
def _turned(red, green, blue, turn):
    """Hue turned: RGB -> HSV -> RGB."""
    high = tl.maximum(tl.maximum(red, green), blue)
    low = tl.minimum(tl.minimum(red, green), blue)
    spread = high - low
    saturation = spread / tl.where(spread == 0, 1.0, high)
    divisor = tl.where(spread == 0, 1.0, spread)
    from_red, from_green = (high - red) / divisor, (high - green) / divisor
    from_blue = (high - blue) / divisor
    hue = tl.where(
        high == red,
        from_blue - from_green,
        tl.where(high == green, 2 + from_red - from_blue, 4 + from_green - from_red),
    )
    hue = hue / 6 + 1 + turn
    hue = (hue - tl.floor(hue)) * 6
    return (
        high * (1 - saturation * _part(hue + 5)),
        high * (1 - saturation * _part(hue + 3)),
        high * (1 - saturation * _part(hue + 1)),
    )


@triton.jit
def _part(k):
    k = k - 6 * tl.floor(k / 6)
    return tl.minimum(tl.maximum(tl.minimum(k, 4 - k), 0.0), 1.0)


@triton.jit
def _grey(red, green, blue):
    return 0.2989 * red + 0.587 * green + 0.114 * blue


@triton.jit
def _changed(red, green, blue, operation, factor, mean):
    """One operation of an image's four: brightness 0, contrast 1, saturation 2, hue 3."""
    if operation == 3:
        if factor != 0:
            red, green, blue = _turned(red, green, blue, factor)
    else:
        flat = tl.where(operation == 1, mean, 0.0)
        own = tl.where(operation == 2, 1.0, 0.0)
        other = (own * _grey(red, green, blue) + flat) * (1 - factor)
        red = tl.minimum(tl.maximum(other + red * factor, 0.0), 1.0)
        green = tl.minimum(tl.maximum(other + green * factor, 0.0), 1.0)
        blue = tl.minimum(tl.maximum(other + blue * factor, 0.0), 1.0)
    return red, green, blue


@triton.jit
def _pixels(images, b, pixels, block: tl.constexpr):
    """A program's pixels in 0..1, where they lie, and which of them there are."""
    p = tl.program_id(1) * block + tl.arange(0, block)
    there = p < pixels
    at = b.to(tl.int64) * pixels * 3 + p * 3
    red = tl.load(images + at, there, other=0).to(tl.float32) / 255
    green = tl.load(images + at + 1, there, other=0).to(tl.float32) / 255
    blue = tl.load(images + at + 2, there, other=0).to(tl.float32) / 255
    return red, green, blue, at, there


@triton.jit
def sums(images, factors, order, out, pixels, block: tl.constexpr):
    b = tl.program_id(0)
    red, green, blue, _, there = _pixels(images, b, pixels, block)
    before = 1
    for position in range(4):
        operation = tl.load(order + b * 4 + position).to(tl.int32)
        if operation == 1:
            before = 0
        if before == 1:
            factor = tl.load(factors + b * 4 + operation)
            red, green, blue = _changed(red, green, blue, operation, factor, 0.0)
    grey = tl.where(there, _grey(red, green, blue), 0.0)
    tl.store(out + b * tl.num_programs(1) + tl.program_id(1), tl.sum(grey, 0))


@triton.jit
def finish(images, factors, order, means, scale, shift, out, pixels, block: tl.constexpr):
    b = tl.program_id(0)
    red, green, blue, at, there = _pixels(images, b, pixels, block)
    mean = tl.load(means + b)
    for position in range(4):
        operation = tl.load(order + b * 4 + position).to(tl.int32)
        factor = tl.load(factors + b * 4 + operation)
        red, green, blue = _changed(red, green, blue, operation, factor, mean)
    red = red * tl.load(scale) + tl.load(shift)
    green = green * tl.load(scale + 1) + tl.load(shift + 1)
    blue = blue * tl.load(scale + 2) + tl.load(shift + 2)
    tl.store(out + at, red.to(out.dtype.element_ty), there)
    tl.store(out + at + 1, green.to(out.dtype.element_ty), there)
    tl.store(out + at + 2, blue.to(out.dtype.element_ty), there)


def jittered(
    images_BHWC: torch.Tensor,
    drawn_B: Jitter,
    scale_C: torch.Tensor,
    shift_C: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """uint8 images, jittered and then `scale_C` times their values in 0..1 plus `shift_C`:
    [B, 3, H, W] of `dtype`, channels-last."""
    images_BHWC = images_BHWC.contiguous()
    batch, height, width, _ = images_BHWC.shape
    pixels, device = height * width, images_BHWC.device
    factors_B4 = to_device(torch.from_numpy(drawn_B.factors_B4), device).float()
    order_B4 = to_device(torch.from_numpy(drawn_B.order_B4), device)
    grid = (batch, triton.cdiv(pixels, BLOCK))
    sums_BK = torch.empty(grid, dtype=torch.float32, device=device)
    sums[grid](images_BHWC, factors_B4, order_B4, sums_BK, pixels, BLOCK)
    means_B = sums_BK.sum(1) / pixels
    out_BHWC = torch.empty(images_BHWC.shape, dtype=dtype, device=device)
    finish[grid](
        images_BHWC, factors_B4, order_B4, means_B, scale_C, shift_C, out_BHWC, pixels, BLOCK
    )
    return out_BHWC.permute(0, 3, 1, 2)
