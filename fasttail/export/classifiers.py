"""What `fasttail predict` asks: a run, or an exported file. All are called alike.

classifier(batch) -> logits float32 [B, C], for uint8 images of its own view
"""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch

from fasttail.classify.features import kept_dtype
from fasttail.compute import Compute
from fasttail.engines.augment import augment
from fasttail.engines.base import Batch
from fasttail.errors import MissingExtra, UserError
from fasttail.export.about import About
from fasttail.export.deployed import Deployed
from fasttail.export.formats import KEY, load_state
from fasttail.export.source import Trained


class Classifier(Protocol):
    """Images as an engine makes them -> logits, on any device."""

    about: About

    def __call__(self, batch: Batch) -> torch.Tensor: ...


class RunClassifier:
    """A run's own backbone and head, as the feature bank and its heads compute: in the run's
    precision, features rounded as in the bank. What metrics.json says holds for these numbers."""

    def __init__(self, trained: Trained) -> None:
        self.about = trained.about
        self._trained = trained

    def __call__(self, batch: Batch) -> torch.Tensor:
        trained, compute = self._trained, self._trained.compute
        images = augment(
            batch,
            mean=self.about.mean,
            std=self.about.std,
            dtype=compute.dtype,
            device=compute.device,
        )
        with compute.autocast():
            features_BD = trained.model.backbone(images)
        return trained.head.logits(features_BD.to(kept_dtype(compute.dtype)))


class StateClassifier:
    """A file of the format `state`, in float32."""

    def __init__(self, path: Path, compute: Compute) -> None:
        network, self.about = load_state(path)
        self._network: Deployed = network.to(compute.device)
        self._device = compute.device

    def __call__(self, batch: Batch) -> torch.Tensor:
        return self._network(unit_images(batch).to(self._device))


class OnnxClassifier:
    """A file of the format `onnx`, by onnxruntime on the CPU."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime

            errors: Any = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
        except ImportError:
            raise MissingExtra("an onnx model", "onnxruntime", "export") from None
        failures = (
            *(errors.Fail, errors.InvalidProtobuf, errors.InvalidGraph, errors.NoSuchFile),
            *(errors.InvalidArgument, errors.NotImplemented, errors.RuntimeException),
        )
        try:
            self._session: Any = onnxruntime.InferenceSession(
                path, providers=["CPUExecutionProvider"]
            )
        except failures as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: onnxruntime can't load it: {reason}") from None
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise UserError(f"{path}: no model that fasttail export wrote (no {KEY!r} metadata)")
        self.about = About.read(text, str(path))
        px, classes = self.about.px, len(self.about.class_names)
        kind = "tensor(float)"
        expected = [("images", kind, [3, px, px]), ("logits", kind, [classes])]
        ends = [*self._session.get_inputs(), *self._session.get_outputs()]
        # The first of a shape is the batch's, which has a name in place of a number.
        there = [(end.name, end.type, list(end.shape[1:])) for end in ends]
        if there != expected:
            raise UserError(
                f"{path}: its inputs and outputs are {there}, where its description has "
                f"{expected}: export it again"
            )

    def __call__(self, batch: Batch) -> torch.Tensor:
        (logits_BC,) = self._session.run(None, {"images": unit_images(batch).numpy()})
        return torch.from_numpy(logits_BC)


def unit_images(batch: Batch) -> torch.Tensor:
    """The batch as an exported model takes it: float32 [B, 3, H, W] in 0..1."""
    return (batch.images_BHWC.permute(0, 3, 1, 2).float() / 255).contiguous()


def load_model(path: Path, compute: Compute) -> Classifier:
    """An exported file as a classifier. `UserError` if it is missing, damaged, or a pt2."""
    if path.suffix == ".pt2":
        raise UserError(
            f"{path}: torch loads a pt2 by running pickled code, which fasttail does not: "
            "export to state or onnx, or load it yourself with torch.export.load"
        )
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".onnx":
        return OnnxClassifier(path)
    return StateClassifier(path, compute)
