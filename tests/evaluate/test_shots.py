import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from fasttail.config import ShotsConfig
from fasttail.evaluate.shots import Tally, group_masks, summarize


def made_up(num_classes: int, images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels_N = generator.integers(num_classes, size=images)
    right_N = generator.random(images) < 0.6
    return labels_N, np.where(right_N, labels_N, generator.integers(num_classes, size=images))


def test_thresholds_are_strict_as_published() -> None:
    groups = group_masks(np.array([101, 100, 20, 19]), ShotsConfig())
    assert groups["many"].tolist() == [True, False, False, False]
    assert groups["medium"].tolist() == [False, True, True, False]
    assert groups["few"].tolist() == [False, False, False, True]


def test_accuracies_agree_with_scikit_learn() -> None:
    labels_N, predicted_N = made_up(num_classes=12, images=900, seed=1)
    counts_C = np.array([500, 300, 150, 101, 100, 60, 40, 20, 19, 10, 5, 1])
    row = summarize(Tally.of(predicted_N, labels_N, 12), counts_C, ShotsConfig())
    assert row["all_micro"] == pytest.approx(100 * accuracy_score(labels_N, predicted_N))
    assert row["all_macro"] == pytest.approx(100 * balanced_accuracy_score(labels_N, predicted_N))
    assert row["all_micro"] != row["all_macro"]
    few = recall_score(labels_N, predicted_N, labels=[8, 9, 10, 11], average="macro")
    assert row["few"] == pytest.approx(100 * few)


def test_a_shot_group_without_classes_is_none_and_not_zero() -> None:
    row = summarize(Tally(np.array([3, 4]), np.array([5, 5])), np.array([500, 200]), ShotsConfig())
    assert row["many"] == pytest.approx(70)
    assert row["medium"] is None
    assert row["few"] is None


def test_a_class_without_test_images_counts_neither_as_right_nor_as_wrong() -> None:
    row = summarize(Tally(np.array([3, 0]), np.array([4, 0])), np.array([500, 200]), ShotsConfig())
    assert row["all_macro"] == pytest.approx(75)
    assert row["many"] == pytest.approx(75)
    assert row["worst_class"] == 0
