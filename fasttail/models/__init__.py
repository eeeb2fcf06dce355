"""Backbones that return features, and the recognizer: a backbone with a classifier on top."""

from fasttail.models.recognizer import (
    BACKBONES,
    CosineClassifier,
    Recognizer,
    build,
    check,
)

__all__ = ["BACKBONES", "CosineClassifier", "Recognizer", "build", "check"]
