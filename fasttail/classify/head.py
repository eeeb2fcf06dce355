"""A classifier on features. Whatever the method, it comes down to: transform, then one linear
layer; and, for the methods that change the backbone, what they changed of it."""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fasttail.errors import UserError
from fasttail.models import Recognizer
from fasttail.protocol import named
from fasttail.records import Form
from fasttail.train.checkpoint import load_weights, save_weights

BACKBONE = "backbone."


def transform(features_ND: Tensor, how: str, center_D: Tensor | None) -> Tensor:
    """Features as NCM compares them (Wang et al., SimpleShot, 2019): un, as they are; l2n, each of
    unit length; cl2n, `center_D` taken off first."""
    if how == "un":
        return features_ND
    if how == "cl2n":
        if center_D is None:
            raise ValueError("cl2n needs the mean of the training features")
        features_ND = features_ND - center_D
    return F.normalize(features_ND, dim=1)


class _About(Form):
    """What a head's file says of it."""

    method: str
    transform: Literal["un", "l2n", "cl2n"]
    note: str
    chosen_on: str | None
    protocol: str


@dataclass(frozen=True)
class Head:
    """logits [N, C] = transform(features [N, D]) @ weight_CD.T + bias_C, all float32.

    `method` is what made it, under `protocol`, `note` what a results table says of it (e.g. tau),
    `chosen_on` the split on which something about it was chosen, if anything was. `backbone` holds
    the tensors in which its backbone differs from stage 1's, by their names there: BatchNorm's
    statistics if they moved, a block that was trained. None: its features are stage 1's.
    """

    method: str
    weight_CD: Tensor
    bias_C: Tensor
    transform: str = "un"
    center_D: Tensor | None = None
    note: str = ""
    chosen_on: str | None = None
    backbone: Mapping[str, Tensor] | None = None
    protocol: str = "clean"

    @property
    def name(self) -> str:
        """What its file is called, and its column in a table of classes."""
        return named(self.method, self.protocol)

    def logits(self, features_ND: Tensor) -> Tensor:
        """float32 [N, C]."""
        x = transform(features_ND.float(), self.transform, self.center_D)
        return torch.addmm(self.bias_C, x, self.weight_CD.T)

    def to(self, device: torch.device) -> "Head":
        """The same head on a device."""
        center_D = None if self.center_D is None else self.center_D.to(device)
        return replace(
            self,
            weight_CD=self.weight_CD.to(device),
            bias_C=self.bias_C.to(device),
            center_D=center_D,
        )

    def model(self, stage_1: Recognizer) -> Recognizer:
        """The model whose backbone this head's features come from, given stage 1's: that one, or a
        copy of it with the head's own tensors. Its classifier is stage 1's all the same."""
        if self.backbone is None:
            return stage_1
        own = copy.deepcopy(stage_1)
        own.backbone.load_state_dict({**own.backbone.state_dict(), **self.backbone})
        return own.eval()

    def backbone_digest(self) -> str:
        """SHA-256 of the backbone's own tensors; "" if it has none."""
        if self.backbone is None:
            return ""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.backbone.items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest.update(content.numpy().tobytes())
        return digest.hexdigest()

    def note_for(self, split_name: str) -> str:
        """What a table has to say beside this head's numbers on a split."""
        if self.chosen_on is None:
            return self.note
        where = f"this split, {split_name}" if self.chosen_on == split_name else self.chosen_on
        return f"{self.note}, chosen on {where}"

    def save(self, path: Path) -> None:
        """Writes the head as safetensors, atomically."""
        tensors = {"weight": self.weight_CD, "bias": self.bias_C}
        if self.center_D is not None:
            tensors["center"] = self.center_D
        for name, tensor in (self.backbone or {}).items():
            tensors[BACKBONE + name] = tensor
        about: dict[str, Any] = {
            "method": self.method,
            "transform": self.transform,
            "note": self.note,
            "chosen_on": self.chosen_on,
            "protocol": self.protocol,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(path, tensors, about)

    @staticmethod
    def load(path: Path) -> "Head":
        """Reads a head that `save` wrote. `UserError` if it is missing or damaged."""
        tensors, about = load_weights(path, _About)
        needed = {"weight", "bias", *(["center"] if about["transform"] == "cl2n" else [])}
        if missing := needed - tensors.keys():
            raise UserError(f"{path}: damaged: it has no tensor {', '.join(sorted(missing))}")
        backbone = {
            name.removeprefix(BACKBONE): tensor
            for name, tensor in tensors.items()
            if name.startswith(BACKBONE)
        }
        return Head(
            about["method"],
            tensors["weight"],
            tensors["bias"],
            about["transform"],
            tensors.get("center"),
            about["note"],
            about["chosen_on"],
            backbone or None,
            about["protocol"],
        )
