"""Weights to start from: a run of fasttail's, somebody else's file, or published ones by name.
Nothing pickled is run.

Understood are safetensors, and torch files that hold nothing but tensors and plain containers (read
with `weights_only`): a state dict, one under "state_dict" or "model", or the authors' form
(facebookresearch/classifier-balancing) with "state_dict_best" -> "feat_model", "classifier".
"""

import hashlib
import pickle
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fasttail.errors import UserError
from fasttail.models import pretrained
from fasttail.models.recognizer import Recognizer
from fasttail.models.timm_backbone import TimmBackbone
from fasttail.models.torchvision_backbone import TorchvisionBackbone

WRAPPERS = ("state_dict_best", "state_dict", "model")
# What the authors' files have beside tensors (accuracies): plain data, rebuilt without any code.
PLAIN_NUMPY = [
    np.float64(0).__reduce__()[0],
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
]
CLASSIFIER_PREFIXES = ("classifier.fc.", "classifier.", "fc.", "linear.")
# LWS's factors, as the authors' code calls them, and by the name that other files have.
SCALES = ("classifier.scales", "classifier.learned_norm")


@dataclass(frozen=True)
class Loaded:
    """How a file's tensors met a model's: names on the model's side, but for `unused`."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    other_shape: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} tensors loaded"]
        for what, names in (
            ("left at fresh values", self.missing),
            ("not used", self.unused),
            ("of another shape and left out", self.other_shape),
        ):
            if names:
                shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
                parts.append(f"{len(names)} {what} ({shown})")
        return "; ".join(parts)

    @property
    def has_classifier(self) -> bool:
        """Whether the classifier came along, for these very classes."""
        return not any(name.startswith("classifier.") for name in self.missing)


def load_into(model: Recognizer, source: str) -> Loaded:
    """Puts weights into a model, as far as names and shapes agree. `source` is a run's directory, a
    file, or a name (`torchvision:resnet50`, see `fasttail.models.pretrained`).

    Raises `UserError` if it can't be read or fetched, or lacks most of the backbone's tensors.
    """
    published = pretrained.is_name(source)
    found = dict(pretrained.fetch(source)) if published else _read(_file(source))
    own = model.state_dict()
    given = {_our_name(name, model, own): tensor for name, tensor in found.items()}
    given = _with_scales(given, source)
    fitting = {
        name: tensor
        for name, tensor in given.items()
        if name in own and own[name].shape == tensor.shape
    }
    other_shape = tuple(name for name in given if name in own and name not in fitting)
    backbone = [name for name in own if name.startswith("backbone.")]
    fits = sum(name in fitting for name in backbone)
    if fits < len(backbone) / 2:
        raise UserError(
            f"--init {source}: {fits} of this backbone's {len(backbone)} tensors are in it: "
            "is it of another architecture? It holds "
            + ", ".join([*list(given)[:3], "..."] if given else ["no tensor"])
        )
    model.load_state_dict(fitting, strict=False)
    return Loaded(
        matched=tuple(fitting),
        missing=tuple(name for name in own if name not in fitting),
        unused=tuple(name for name in given if name not in own),
        other_shape=other_shape,
    )


def digest(source: str) -> str:
    """What tells the weights of `source` from others: a file's SHA-256, or the name of published
    ones. Raises as `load_into`."""
    if pretrained.is_name(source):
        return source
    with _file(source).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(source: str) -> Path:
    path = Path(source, "model.safetensors") if Path(source).is_dir() else Path(source)
    if not path.is_file():
        raise UserError(f"--init {source}: no weights there (looked for {path})")
    return path


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not readable as safetensors: {error}") from None
    try:
        with torch.serialization.safe_globals(PLAIN_NUMPY):
            return dict(_tensors(torch.load(path, map_location="cpu", weights_only=True)))
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: holds more than tensors, and pickled code is not run: "
            "save its state_dict alone"
        ) from None
    # A damaged file makes torch raise whatever Python raises; an empty one, one without a text.
    except Exception as error:  # noqa: BLE001
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
        raise UserError(f"{path}: not readable as a torch file: {reason}") from None


def _tensors(content: Any, prefix: str = "") -> list[tuple[str, Tensor]]:
    """The tensors of nested dictionaries under dotted names, wrappers taken off."""
    if not isinstance(content, Mapping):
        return []
    for wrapper in WRAPPERS:
        if not prefix and isinstance(content.get(wrapper), Mapping):
            return _tensors(content[wrapper])
    found = []
    for name, value in content.items():
        if isinstance(value, Tensor):
            if value.layout == torch.strided and not value.is_complex():
                found.append((f"{prefix}{name}", value))
        else:
            found.extend(_tensors(value, f"{prefix}{name}."))
    return found


def _our_name(name: str, model: Recognizer, own: Container[str]) -> str:
    """What a tensor is called here: `backbone.*` or `classifier.*`."""
    name = name.replace("module.", "")
    if name.startswith("backbone."):
        return name
    inner, heads = "backbone.", CLASSIFIER_PREFIXES
    if isinstance(model.backbone, TimmBackbone | TorchvisionBackbone):
        inner, heads = "backbone.network.", (*model.backbone.heads, *heads)
    if inner + name in own:  # torchvision calls layers before its last `classifier.0` too
        return inner + name
    for prefix in heads:
        if name.startswith(prefix):
            return "classifier." + name.removeprefix(prefix)
    return inner + name.removeprefix("feat_model.")


def _with_scales(given: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The authors' LWS classifier, (W x + b) * scales, as a plain linear layer."""
    name = next((name for name in SCALES if name in given), None)
    if name is None:
        return given
    scale_C = given.pop(name).flatten()
    layer = {key: given[key] for key in ("classifier.weight", "classifier.bias") if key in given}
    if any(tensor.shape[:1] != scale_C.shape for tensor in layer.values()):
        raise UserError(f"--init {source}: {len(scale_C)} factors do not fit its classifier")
    return given | {
        key: tensor * scale_C.view(-1, *(1,) * (tensor.ndim - 1)) for key, tensor in layer.items()
    }
