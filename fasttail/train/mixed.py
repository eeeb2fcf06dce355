"""Images and labels of a batch, mixed on the device as the plan drew it (`plan.mixing`)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fasttail.engines.upload import to_device
from fasttail.plan.mixing import Mix
from fasttail.train.losses import BatchLoss


@dataclass(frozen=True)
class Targets:
    """What images are to be recognised as: labels int64 [B]; of mixed ones `shares_B` of that, and
    the rest of the partner's."""

    labels_B: Tensor
    partners_B: Tensor | None = None  # labels int64 [B]
    shares_B: Tensor | None = None

    def chunk(self, parts: int) -> list["Targets"]:
        """The targets of the batch's parts."""
        if self.partners_B is None or self.shares_B is None:
            return [Targets(labels) for labels in self.labels_B.chunk(parts)]
        fields = (self.labels_B, self.partners_B, self.shares_B)
        return [Targets(*part) for part in zip(*(f.chunk(parts) for f in fields), strict=True)]

    def losses(self, loss_of: BatchLoss, logits_BC: Tensor) -> Tensor:
        """The images' losses [B]: of a mixed one those of both labels, by their shares."""
        own_B = loss_of.losses_of(logits_BC, self.labels_B)
        if self.partners_B is None or self.shares_B is None:
            return own_B
        return self._shared(own_B, loss_of.losses_of(logits_BC, self.partners_B))

    def weight(self, loss_of: BatchLoss) -> Tensor:
        """The sum of the images' weights, a scalar."""
        if loss_of.weight_C is None or self.partners_B is None:
            return loss_of.weight(self.labels_B)
        weight_C = loss_of.weight_C
        return self._shared(weight_C[self.labels_B], weight_C[self.partners_B]).sum()

    def _shared(self, own_B: Tensor, partners_B: Tensor) -> Tensor:
        assert self.shares_B is not None
        return partners_B + self.shares_B * (own_B - partners_B)


def mixed(images_BCHW: Tensor, labels_B: Tensor, mix: Mix | None) -> tuple[Tensor, Targets]:
    """Normalised images and their labels, mixed; as they are without a mix."""
    if mix is None:
        return images_BCHW, Targets(labels_B)
    partners_B, blends_B, boxes_B4, shares_B = (
        to_device(torch.from_numpy(values), images_BCHW.device)
        for values in (mix.partners_B, mix.blends_B, mix.boxes_B4, mix.shares_B)
    )
    top_B, left_B, height_B, width_B = boxes_B4.unbind(1)
    images_BHWC = images_BCHW.permute(0, 2, 3, 1)  # as they lie in memory
    within_BHW = (
        _between(top_B, height_B, images_BHWC.shape[1])[:, :, None]
        & _between(left_B, width_B, images_BHWC.shape[2])[:, None, :]
    )
    own_BHW = blends_B[:, None, None].where(~within_BHW, 0.0).to(images_BHWC.dtype)
    others_BHWC = images_BHWC.index_select(0, partners_B)
    mixed_BHWC = others_BHWC.lerp(images_BHWC, own_BHW[..., None])
    targets = Targets(labels_B, labels_B[partners_B], shares_B)
    return mixed_BHWC.permute(0, 3, 1, 2), targets


def _between(first_B: Tensor, count_B: Tensor, size: int) -> Tensor:
    """Which of 0 .. size - 1 are first .. first + count - 1, bool [B, size]."""
    offset_BS = torch.arange(size, device=first_B.device) - first_B[:, None]
    return (offset_BS >= 0) & (offset_BS < count_B[:, None])
