"""uint8 batches -> the network's input, on the device: colour jitter, normalise, channels-last.

Flips are the engine's. The jitter is torchvision's `ColorJitter` on float images, one set of
factors and one order an image, over the whole batch at once.

Brightness, contrast and saturation are all `clamp(f x + (1 - f) y)`, where y is black, the mean of
the image's grey, or each pixel's grey. One formula serves the three, whatever order an image has.
"""

import importlib.util

import torch

from fasttail.engines.base import Batch, Jitter
from fasttail.engines.upload import to_device

# torchvision's weights of grey (ITU-R BT.601)
GREY_3 = (0.2989, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def augment(
    batch: Batch,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor:
    """Images of `batch` as [B, 3, H, W], channels-last, of `dtype`, on `device`, jittered and
    normalised. `mean` and `std` are of pixels scaled to 0..1."""
    # The permuted view of NHWC memory is channels-last already: nothing is moved.
    images_BCHW = batch.images_BHWC.to(device, non_blocking=True).permute(0, 3, 1, 2)
    mean_C, std_C = torch.tensor(mean), torch.tensor(std)
    scale_C, shift_C = to_device(torch.stack([1 / std_C, -mean_C / std_C]), device)
    if batch.jitter_B is None:
        return _scaled(images_BCHW, scale_C / 255, shift_C).to(dtype)
    if device.type == "cuda" and _has_triton():
        from fasttail.engines.jitter_kernel import jittered

        images_BHWC = images_BCHW.permute(0, 2, 3, 1)
        return jittered(images_BHWC, batch.jitter_B, scale_C, shift_C, dtype)
    jittered_BCHW = jitter(images_BCHW.float() / 255, batch.jitter_B)
    return _scaled(jittered_BCHW, scale_C, shift_C).to(dtype)


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _scaled(
    images_BCHW: torch.Tensor, scale_C: torch.Tensor, shift_C: torch.Tensor
) -> torch.Tensor:
    return torch.addcmul(shift_C[:, None, None], images_BCHW, scale_C[:, None, None])


def jitter(images_BCHW: torch.Tensor, drawn_B: Jitter) -> torch.Tensor:
    """Float images in 0..1 with each one's colour jitter applied, in each one's order."""
    device = images_BCHW.device
    factors_B4 = to_device(torch.from_numpy(drawn_B.factors_B4), device)
    order_B4 = to_device(torch.from_numpy(drawn_B.order_B4), device).long()
    # Images whose hue changes are known on the host already: asking the device would wait for it.
    turned_B = drawn_B.factors_B4[:, HUE] != 0
    for position in range(4):
        operation_B = order_B4[:, position]
        images_BCHW = _blend(images_BCHW, factors_B4, operation_B)
        hue_now = (turned_B & (drawn_B.order_B4[:, position] == HUE)).nonzero()[0]
        if len(hue_now):
            which = to_device(torch.from_numpy(hue_now), device)
            images_BCHW[which] = _turn_hue(images_BCHW[which], factors_B4[which, HUE])
    return images_BCHW


def _grey(images_BCHW: torch.Tensor) -> torch.Tensor:
    red, green, blue = images_BCHW.unbind(1)
    return (GREY_3[0] * red + GREY_3[1] * green + GREY_3[2] * blue).unsqueeze(1)


def _blend(
    images_BCHW: torch.Tensor, factors_B4: torch.Tensor, operation_B: torch.Tensor
) -> torch.Tensor:
    """Each image's operation, unless it is hue: then the image as it is."""
    factor_B = factors_B4.gather(1, operation_B[:, None])[:, 0]
    factor_B = torch.where(operation_B == HUE, 1.0, factor_B)[:, None, None, None]
    grey_B1HW = _grey(images_BCHW)
    mean_B = grey_B1HW.mean((1, 2, 3))
    # What is blended in: `own` times the pixel's grey + `flat`
    own_B = (operation_B == SATURATION).float()[:, None, None, None]
    flat_B = torch.where(operation_B == CONTRAST, mean_B, 0.0)[:, None, None, None]
    other_B1HW = (own_B * grey_B1HW + flat_B) * (1 - factor_B)
    return torch.addcmul(other_B1HW, images_BCHW, factor_B).clamp_(0, 1)


def _turn_hue(images_BCHW: torch.Tensor, turn_B: torch.Tensor) -> torch.Tensor:
    """Hue turned by `turn_B` (in turns, -0.5 .. 0.5): RGB -> HSV -> RGB, as torchvision does."""
    red, green, blue = images_BCHW.unbind(1)
    high, low = images_BCHW.amax(1), images_BCHW.amin(1)
    spread = high - low
    grey = spread == 0
    saturation = spread / torch.where(grey, 1.0, high)
    divisor = torch.where(grey, 1.0, spread)
    from_red, from_green, from_blue = ((high - channel) / divisor for channel in (red, green, blue))
    hue = torch.where(
        high == red,
        from_blue - from_green,
        torch.where(high == green, 2 + from_red - from_blue, 4 + from_green - from_red),
    )
    hue = (hue / 6 + 1 + turn_B[:, None, None]) % 1
    # Each channel of the colour with this hue, full saturation and value
    k = torch.stack([hue * 6 + shift for shift in (5, 3, 1)], 1) % 6
    part = torch.minimum(k, 4 - k).clamp(0, 1)
    return high.unsqueeze(1) * (1 - saturation.unsqueeze(1) * part)
