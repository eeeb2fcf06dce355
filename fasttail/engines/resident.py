"""The decoded split lives on the device: a batch is a gather. For small images, such as CIFAR's.

Boxes of the output's size are copied, all of a batch at once; other boxes are resized by two matrix
products, whose matrices hold each image's filter.
"""

from collections.abc import Generator, Sequence

import numpy as np
import torch

from fasttail.engines import ffcv
from fasttail.engines.base import Batch, BatchPlan, Engine, Plan
from fasttail.engines.reference import Reference
from fasttail.engines.source import Source
from fasttail.engines.upload import to_device
from fasttail.errors import UserError
from fasttail.plan import EvalEpoch, View

DECODED_AT_ONCE = 512  # images


def one_size(split: Source) -> tuple[int, int] | None:
    """Height and width, if all images have the same; else None."""
    heights_N, widths_N = split.heights_N, split.widths_N
    height, width = int(heights_N[0]), int(widths_N[0])
    same = (heights_N == height).all() and (widths_N == width).all()
    return (height, width) if same else None


def _decode(split: Source, device: torch.device, threads: int) -> torch.Tensor:
    """Every image of the split, uint8 [N, H, W, 3], on the device."""
    image_hw = one_size(split)
    if image_hw is None:
        raise UserError(
            "the engine resident needs images of one size, and this split has several: "
            'use "--engine ffcv"'
        )
    host = torch.device("cpu")
    decoder: Engine = (
        ffcv.Ffcv(split, device=host, threads=threads)
        if ffcv.available()
        else Reference(split, device=host)
    )
    try:
        images_NHWC = torch.empty((len(split), *image_hw, 3), dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError:
        need_gb = len(split) * image_hw[0] * image_hw[1] * 3 / 1e9
        raise UserError(
            f'{device} has no {need_gb:.1f} GB free for the decoded split: use "--engine ffcv"'
        ) from None
    plan = EvalEpoch(split, view=View.whole(image_hw), batch_size=DECODED_AT_ONCE)
    try:
        at = 0
        for batch in decoder.run(plan):
            images_NHWC[at : at + len(batch.ids_B)] = batch.images_BHWC
            at += len(batch.ids_B)
    finally:
        decoder.close()
    return images_NHWC


def _weights(
    start_B: torch.Tensor, extent_B: torch.Tensor, reach: int, size: int, out: int
) -> torch.Tensor:
    """One axis' triangle filter per image, float32 [B, out, size]: what share each of the image's
    `size` positions has in each of the `out` positions of the resized box, at most `reach` long.
    The box's positions outside the image count in the sum and have no share: they are black."""
    device = start_B.device
    scale_B11 = (extent_B.double() / out)[:, None, None]
    support_B11 = scale_B11.clamp(min=1)
    center_BO1 = torch.arange(out, device=device, dtype=torch.float64)[None, :, None] + 0.5
    center_BO1 = center_BO1 * scale_B11
    # Over the box, for the sum; over the image, for the shares.
    inside_box_11K = torch.arange(reach, device=device)[None, None, :]
    inside_image_11S = torch.arange(size, device=device)[None, None, :] - start_B[:, None, None]

    def triangle(position: torch.Tensor) -> torch.Tensor:
        height = 1 - ((position - center_BO1 + 0.5) / support_B11).abs()
        in_box = (position >= 0) & (position < extent_B[:, None, None])
        return height.clamp(min=0) * in_box

    sum_BO1 = triangle(inside_box_11K).sum(2, keepdim=True)
    return (triangle(inside_image_11S) / sum_BO1).float()


def cut(
    images_BHWC: torch.Tensor,
    boxes_B4: torch.Tensor,
    flips_B: torch.Tensor,
    out_hw: tuple[int, int],
    reach_hw: Sequence[int],
) -> torch.Tensor:
    """Each image's box at output size, mirrored where `flips_B`: uint8 [B, out_h, out_w, 3]. No
    box is higher or wider than `reach_hw`."""
    batch, height, width, _ = images_BHWC.shape
    out_h, out_w = out_hw
    top_B, left_B, box_h_B, box_w_B = boxes_B4.unbind(1)
    y_BOH = _weights(top_B, box_h_B, reach_hw[0], height, out_h)
    x_BPW = _weights(left_B, box_w_B, reach_hw[1], width, out_w)
    x_BPW = torch.where(flips_B[:, None, None], x_BPW.flip(1), x_BPW)
    rows = torch.bmm(y_BOH, images_BHWC.float().view(batch, height, width * 3))
    columns = torch.matmul(x_BPW[:, None], rows.view(batch, out_h, width, 3))
    return (columns + 0.5).to(torch.uint8)


def gather(
    images_NHWC: torch.Tensor,
    ids_B: torch.Tensor,
    corners_B2: torch.Tensor,
    flips_B: torch.Tensor,
    out_hw: tuple[int, int],
) -> torch.Tensor:
    """Boxes of the output's size, by top left corner: uint8 [B, out_h, out_w, 3]; black outside."""
    _, height, width, _ = images_NHWC.shape
    device = images_NHWC.device
    rows_BH = corners_B2[:, :1] + torch.arange(out_hw[0], device=device)
    across_W = torch.arange(out_hw[1], device=device)
    across_BW = torch.where(flips_B[:, None], across_W.flip(0), across_W)
    columns_BW = corners_B2[:, 1:] + across_BW
    inside_BHW = ((rows_BH >= 0) & (rows_BH < height))[:, :, None] & (
        (columns_BW >= 0) & (columns_BW < width)
    )[:, None, :]
    images_BHWC = images_NHWC[
        ids_B[:, None, None],
        rows_BH.clamp(0, height - 1)[:, :, None],
        columns_BW.clamp(0, width - 1)[:, None, :],
    ]
    return images_BHWC.mul_(inside_BHW[..., None])


class Resident:
    """The engine `resident`. Raises `UserError` if the images differ in size or don't fit."""

    name = "resident"

    def __init__(self, split: Source, *, device: torch.device, threads: int) -> None:
        self.device = device
        self._images_NHWC: torch.Tensor | None = _decode(split, device, threads)

    def run(self, plan: Plan, start: int = 0) -> Generator[Batch]:
        for step in range(start, plan.steps):
            yield self._make(plan.batch(step), plan.out_hw)

    def close(self) -> None:
        self._images_NHWC = None

    def _make(self, batch: BatchPlan, out_hw: tuple[int, int]) -> Batch:
        if self._images_NHWC is None:
            raise RuntimeError("the engine has been closed")
        # One array, so that it is one copy to the device.
        packed_B7 = torch.from_numpy(
            np.concatenate(
                [
                    batch.ids_B[:, None],
                    batch.labels_B[:, None],
                    batch.flips_B[:, None],
                    batch.boxes_B4,
                ],
                axis=1,
                dtype=np.int64,
            )
        )
        packed_B7 = to_device(packed_B7, self.device)
        ids_B, labels_B, flips_B, boxes_B4 = (
            packed_B7[:, 0],
            packed_B7[:, 1],
            packed_B7[:, 2].bool(),
            packed_B7[:, 3:],
        )
        if (batch.boxes_B4[:, 2:] == out_hw).all():
            images = gather(self._images_NHWC, ids_B, boxes_B4[:, :2], flips_B, out_hw)
        else:
            # Known on the host already: asking the device would wait for it.
            reach_hw = batch.boxes_B4[:, 2:].max(0).tolist()
            images = cut(self._images_NHWC[ids_B], boxes_B4, flips_B, out_hw, reach_hw)
        return Batch(images, labels_B, ids_B, batch.jitter_B)
