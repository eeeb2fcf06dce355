"""The formats of an exported classifier, each written whole or not at all.

    state   safetensors: the weights, and the description as JSON. `load_state` reads it back
    pt2     `torch.export`: the network as a graph that torch runs without fasttail
    onnx    the same for onnxruntime and everything else that reads ONNX (extra `[export]`)

Reading never runs pickled code: `torch.export.load` does, so a pt2 is written here but not read.
"""

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from fasttail import models
from fasttail.atomic import explain, whole_path
from fasttail.classify.head import Head
from fasttail.errors import MissingExtra, UserError
from fasttail.export.about import About
from fasttail.export.deployed import Deployed
from fasttail.train.checkpoint import load_weights, save_weights

KEY = "fasttail"  # of the description, in formats that have names for such things
OPSET = 18  # of ONNX: what TensorRT, OpenVINO and onnxruntime have read for years
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def save_state(path: Path, network: Deployed, about: About) -> None:
    save_weights(path, network.state_dict(), about.model_dump(mode="json"))


def load_state(path: Path) -> tuple[Deployed, About]:
    """What `save_state` wrote, on the CPU.

    Raises `UserError` if the file is missing, damaged, or no exported classifier.
    """
    tensors, content = load_weights(path)
    about = About.read(json.dumps(content), str(path))
    model = models.build(about.backbone, 1)
    try:
        head = Head(
            about.method,
            tensors["classifier.weight"],
            tensors["classifier.bias"],
            about.transform,
            tensors.get("center"),
        )
        network = Deployed(model.backbone, head, about.mean, about.std)
        network.load_state_dict(tensors)
        fits = head.weight_CD.shape == (len(about.class_names), model.classifier.in_features)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not the tensors of {about.backbone}: {reason}") from None
    if not fits:
        raise UserError(f"{path}: its classifier is not of {len(about.class_names)} classes")
    return network, about


def save_pt2(path: Path, network: Deployed, about: About) -> None:
    program = torch.export.export(
        network, (_example(about),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    # Opened here, since torch warns about names that do not end in .pt2.
    with whole_path(path) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file, extra_files={f"{KEY}.json": about.model_dump_json()})
        file.flush()


def save_onnx(path: Path, network: Deployed, about: About) -> None:
    for package in ONNX_PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra("export to onnx", package, "export")
    with warnings.catch_warnings():
        # The exporter uses parts of torch that torch itself declares old.
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            network,
            (_example(about),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    program.model.metadata_props[KEY] = about.model_dump_json()
    with whole_path(path) as temporary:
        program.save(temporary, external_data=False)


def _example(about: About) -> torch.Tensor:
    """Two images: a batch of one would be taken for a batch that is always one."""
    return torch.zeros(2, 3, about.px, about.px)


Save = Callable[[Path, Deployed, About], None]
# Name -> what writes it, and the ending of its files.
FORMATS: dict[str, tuple[Save, str]] = {
    "state": (save_state, ".safetensors"),
    "pt2": (save_pt2, ".pt2"),
    "onnx": (save_onnx, ".onnx"),
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes the folder of `path`; what keeps the block from writing there becomes a `UserError`."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the file with --out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise explain(error, path.parent) from error
