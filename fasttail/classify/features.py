"""The feature bank: the frozen backbone runs once over a split, and every head works on the result.

features/SPLIT.npy        [V * N, D], memory-mapped: row v * N + i is view v of sample i
features/SPLIT.json       what it was made from; other weights, shards or views: made again
features/SPLIT.making/    a bank that is not finished; see `fasttail.classify.extract`
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fasttail import records
from fasttail.engines.upload import to_device
from fasttail.shards import Split


def kept_dtype(computed: torch.dtype) -> torch.dtype:
    """How a bank keeps features that were computed in a type. float16 holds what bfloat16 does; of
    float32 it would change the answers for some images in ten thousand."""
    return torch.float32 if computed is torch.float32 else torch.float16


@dataclass(frozen=True)
class Features:
    """A split as the heads see it. `split` gives the class-index table that balanced draws need.

    `features_ND` has `views` rows a sample, view by view, and is on the device where labels are,
    or, a bank above the budget, a memory map: read it by `rows` and `blocks`.
    """

    split: Split
    features_ND: Tensor  # float16 or float32 [V * N, D]
    labels_N: Tensor  # int64 [N], on the device
    views: int = 1

    @property
    def device(self) -> torch.device:
        return self.labels_N.device

    @property
    def dim(self) -> int:
        return self.features_ND.shape[1]

    def __len__(self) -> int:
        return len(self.features_ND)

    @property
    def labels(self) -> Tensor:
        """int64 [V * N]: the label of every row."""
        return self.labels_N.repeat(self.views)

    def rows(self, rows_B: np.ndarray) -> Tensor:
        """Some rows, float32 [B, D], on the device."""
        where_B = to_device(torch.from_numpy(rows_B), self.features_ND.device)
        return to_device(self.features_ND[where_B], self.device).float()

    def blocks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows in order, at most `size` at a time: float32 [B, D], int64 [B]."""
        labels = self.labels
        for start in range(0, len(self), size):
            part = self.features_ND[start : start + size]
            yield part.to(self.device).float(), labels[start : start + size]


def is_current(path: Path, about: dict[str, Any]) -> bool:
    """Whether there is a bank, made from just this."""
    return path.exists() and records.says(path.with_suffix(".json"), about)


def load(
    path: Path, split: Split, *, views: int, device: torch.device, budget_bytes: int
) -> Features:
    """A bank that is there. It goes to a GPU whole if it takes no more than the budget."""
    # Copy on write: torch wants memory that could be written, and nobody writes.
    features_ND = torch.from_numpy(np.load(path, mmap_mode="c"))
    if device.type != "cpu" and features_ND.nbytes <= budget_bytes:
        features_ND = features_ND.to(device)
    labels_N = torch.from_numpy(np.asarray(split.labels_N).astype(np.int64))
    return Features(split, features_ND, labels_N.to(device), views)
