"""Stage 2: balanced classifiers on a frozen backbone, one module a method."""

from fasttail.classify.head import Head
from fasttail.classify.methods import (
    METHODS,
    first_head,
    joint_head,
    make_heads,
    names,
    of_these,
    saved_heads,
    saved_paths,
)
from fasttail.classify.scoring import score_everywhere, score_heads
from fasttail.classify.stage import Stage

__all__ = [
    "METHODS",
    "Head",
    "Stage",
    "first_head",
    "joint_head",
    "make_heads",
    "names",
    "of_these",
    "saved_heads",
    "saved_paths",
    "score_everywhere",
    "score_heads",
]
