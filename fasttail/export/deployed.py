"""Backbone, head and normalisation as one module: images in, logits out, nothing else needed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fasttail.classify.head import Head, transform


class Deployed(nn.Module):
    """Images float32 RGB [B, 3, px, px] in 0..1 -> logits float32 [B, C], one per class.

    Whatever the method, its head is one linear layer here: cRT's weights, LWS's factors and tau's
    norms are folded into them (sections 4.1 to 4.4 of Kang et al. 2020). NCM's and a cosine
    classifier's scaling of the features to unit length stays in front of it.
    """

    mean: Tensor
    std: Tensor
    center: Tensor | None

    def __init__(
        self, backbone: nn.Module, head: Head, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        num_classes, dim = head.weight_CD.shape
        # On "meta": the weights come from the head, and drawing fresh ones would move the seed.
        self.classifier = nn.Linear(dim, num_classes, device="meta")
        self.classifier.weight = nn.Parameter(head.weight_CD.detach().clone())
        self.classifier.bias = nn.Parameter(head.bias_C.detach().clone())
        self.how = head.transform
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])
        self.register_buffer("center", None if head.center_D is None else head.center_D.clone())
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        features_BD = self.backbone((images - self.mean) / self.std)
        return self.classifier(transform(features_BD, self.how, self.center))
