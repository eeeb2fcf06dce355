from pathlib import Path

import numpy as np
import pytest

from fasttail.config import ConvertConfig
from fasttail.datasets import digits
from fasttail.datasets.base import ArrayImages, SplitIndex
from fasttail.datasets.longtail import make_long_tailed, tail_counts
from fasttail.errors import UserError


def numbered(counts: list[int]) -> SplitIndex:
    labels = np.repeat(np.arange(len(counts)), counts)
    return SplitIndex(ArrayImages(np.zeros((len(labels), 2, 2, 3), np.uint8), "x"), labels)


@pytest.mark.parametrize(
    ("n_max", "imbalance", "classes", "total"),
    [
        (5000, 100, 10, 12_406),
        (5000, 50, 10, 13_996),
        (500, 100, 100, 10_847),
        (500, 50, 100, 12_608),
    ],
)
def test_totals_are_the_published_ones(
    n_max: int, imbalance: float, classes: int, total: int
) -> None:
    counts = tail_counts(n_max, imbalance, classes)
    assert counts.sum() == total
    assert counts[0] == n_max
    assert (np.diff(counts) <= 0).all()


def test_the_tail_is_drawn_by_the_seed() -> None:
    def names(seed: int) -> list[str]:
        split = make_long_tailed(
            numbered([40, 40]), n_max=40, imbalance=4, class_names=("a", "b"), seed=seed
        )
        assert np.bincount(split.labels_N).tolist() == [40, 10]
        return [split.images.name(i) for i in range(50)]

    assert names(0) == names(0)
    assert names(0) != names(1)


def test_a_source_that_is_long_tailed_already_is_refused() -> None:
    with pytest.raises(UserError, match=r"'b' has 3 images.*--dataset folder"):
        make_long_tailed(numbered([40, 3]), n_max=40, imbalance=4, class_names=("a", "b"), seed=0)


def test_digits_have_many_medium_and_few_shot_classes() -> None:
    index = digits.index(None, ConvertConfig())
    counts = index.counts("train")
    assert counts.tolist() == [120, 77, 50, 32, 21, 13, 8, 5, 3, 2]
    assert (counts > 100).any()
    assert ((counts >= 20) & (counts <= 100)).any()
    assert (counts < 20).any()
    assert set(index.counts("val")) == {14}
    assert set(index.counts("test")) == {40}


def test_the_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    grey_NP, labels_N = load_digits(return_X_y=True)
    with np.load(Path(digits.__file__).with_name("digits.npz")) as stored:
        np.testing.assert_array_equal(stored["grey_NHW"].reshape(-1, 64), grey_NP)
        np.testing.assert_array_equal(stored["labels_N"], labels_N)
