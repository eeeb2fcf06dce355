"""Splits without images: all that a plan looks at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest


@dataclass(frozen=True)
class BareSplit:
    """A split's tables, its samples in a random order of classes."""

    indptr_C1: np.ndarray
    samples_N: np.ndarray
    labels_N: np.ndarray
    heights_N: np.ndarray
    widths_N: np.ndarray
    sizes_N: np.ndarray
    class_names: tuple[str, ...]

    @property
    def counts_C(self) -> np.ndarray:
        return np.diff(self.indptr_C1)


def bare_split(counts: Sequence[int], seed: int = 0) -> BareSplit:
    generator = np.random.default_rng(seed)
    labels_N = np.repeat(np.arange(len(counts)), counts)
    generator.shuffle(labels_N)
    size = len(labels_N)
    return BareSplit(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.argsort(labels_N, kind="stable"),
        labels_N,
        generator.integers(20, 600, size).astype(np.int32),
        generator.integers(20, 600, size).astype(np.int32),
        generator.integers(1_000, 200_000, size),
        tuple(f"class {c}" for c in range(len(counts))),
    )


@pytest.fixture(scope="session")
def make_split() -> Callable[..., BareSplit]:
    return bare_split


@pytest.fixture(scope="session")
def long_tail() -> BareSplit:
    """200 classes of 500 down to 5 images."""
    counts = [int(500 * 100 ** (-c / 199)) for c in range(200)]
    assert counts[0] == 500
    assert counts[-1] == 5
    return bare_split(counts)
