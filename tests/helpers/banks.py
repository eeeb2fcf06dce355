"""A bank of made-up features, long-tailed."""

from dataclasses import dataclass

import numpy as np
import torch

from fasttail.classify.features import Features


@dataclass(frozen=True)
class Table:
    """What a plan needs of a split."""

    labels_N: np.ndarray
    class_names: tuple[str, ...]

    @property
    def counts_C(self) -> np.ndarray:
        return np.bincount(self.labels_N, minlength=len(self.class_names))

    @property
    def indptr_C1(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.counts_C)])

    @property
    def samples_N(self) -> np.ndarray:
        return np.argsort(self.labels_N, kind="stable")

    @property
    def heights_N(self) -> np.ndarray:
        return np.full(len(self.labels_N), 1, np.int32)

    widths_N = heights_N

    def __len__(self) -> int:
        return len(self.labels_N)


COUNTS = (200, 90, 40, 15, 6)
DIM = 16


def bank(counts: tuple[int, ...], seed: int) -> Features:
    means_CD = np.random.default_rng(0).normal(size=(len(counts), DIM)) + 1.0
    labels_N = np.repeat(np.arange(len(counts)), counts)
    noise_ND = np.random.default_rng(seed).normal(size=(len(labels_N), DIM)) * 1.5
    features_ND = np.maximum(means_CD[labels_N] + noise_ND, 0)
    names = tuple(f"class {c}" for c in range(len(counts)))
    return Features(
        Table(labels_N, names),  # type: ignore[arg-type]
        torch.from_numpy(features_ND).half(),
        torch.from_numpy(labels_N),
    )
