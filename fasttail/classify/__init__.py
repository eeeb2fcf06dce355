"""Stage 2: balanced classifiers on a frozen backbone, one module a method."""

from fasttail.classify.methods import (
    METHODS,
    Stage,
    joint_head,
    make_heads,
    names,
    saved_heads,
    score_everywhere,
    score_heads,
)

__all__ = [
    "METHODS",
    "Stage",
    "joint_head",
    "make_heads",
    "names",
    "saved_heads",
    "score_everywhere",
    "score_heads",
]
