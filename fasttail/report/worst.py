"""The classes that the joint classifier gets wrong most often, with images that it gets wrong."""

from dataclasses import dataclass

import numpy as np

from fasttail.report.pictures import Picture, thumbnail
from fasttail.shards import Split

CLASSES = 6
PICTURES = 4  # of each


@dataclass(frozen=True)
class WorstClass:
    """One of them. Accuracies in percent by method; `taken_for` with the number of images."""

    name: str
    train_images: int
    group: str
    images: int
    accuracy: dict[str, float]
    taken_for: str
    taken_for_images: int
    pictures: list[Picture]


def worst(
    split: Split,
    first: str,
    predicted_N: np.ndarray,
    accuracy: dict[str, np.ndarray],
    counts_C: np.ndarray,
    groups: dict[str, np.ndarray],
) -> list[WorstClass]:
    """The least accurate classes by the head `first` of `accuracy`, of equals the smaller one
    first. `predicted_N` is that head's."""
    labels_N = np.asarray(split.labels_N)
    names = split.class_names
    # A class without an image in this split is nan, which comes last.
    order_C = np.lexsort((counts_C, accuracy[first]))
    found = []
    for c in order_C[:CLASSES].tolist():
        wrong = np.flatnonzero((labels_N == c) & (predicted_N != c))
        if not len(wrong):
            continue
        taken_C = np.bincount(predicted_N[wrong], minlength=len(names))
        shown = wrong[np.linspace(0, len(wrong) - 1, min(PICTURES, len(wrong))).astype(int)]
        found.append(
            WorstClass(
                names[c],
                int(counts_C[c]),
                next(group for group, mask_C in groups.items() if mask_C[c]),
                int((labels_N == c).sum()),
                {method: float(accuracy_C[c]) for method, accuracy_C in accuracy.items()},
                names[int(taken_C.argmax())],
                int(taken_C.max()),
                [thumbnail(split, i, f"taken for {names[predicted_N[i]]}") for i in shown.tolist()],
            )
        )
    return found
