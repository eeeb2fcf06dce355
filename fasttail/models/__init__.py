"""Backbones that return features, and the recognizer: a backbone with a classifier on top."""

from fasttail.models.recognizer import (
    BACKBONES,
    CosineClassifier,
    Recognizer,
    build,
    check,
    check_name,
    expected,
)

__all__ = [
    "BACKBONES",
    "CosineClassifier",
    "Recognizer",
    "build",
    "check",
    "check_name",
    "expected",
]
