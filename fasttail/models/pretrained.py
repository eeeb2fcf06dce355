"""Weights that others publish, by name: `torchvision:resnet50`, `timm:resnet50.a1_in1k`."""

from collections.abc import Mapping
from urllib.error import URLError

from torch import Tensor

from fasttail.errors import UserError, unknown
from fasttail.models import timm_backbone
from fasttail.models.torchvision_backbone import PREFIX as TORCHVISION
from fasttail.models.torchvision_backbone import weights_of

TIMM = timm_backbone.PREFIX


def is_name(source: str) -> bool:
    """Whether `--init` names published weights rather than a file or a run."""
    return source.startswith((TORCHVISION, TIMM))


def fetch(source: str) -> Mapping[str, Tensor]:
    """The tensors of `torchvision:MODEL`, `torchvision:Enum.MEMBER` or `timm:NAME`.

    torchvision's are taken from torch's cache, or downloaded into it. Raises `UserError` for an
    unknown name, and where the download fails, with the address.
    """
    if source.startswith(TIMM):
        return _from_timm(source)
    weights = weights_of(source, "--init")
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError) as error:
        raise UserError(
            f"--init {source}: could not fetch {weights.url} ({_reason(error)}): "
            "fetch it by other means and give --init the file"
        ) from None


def _from_timm(source: str) -> Mapping[str, Tensor]:
    timm = timm_backbone.import_timm(f"--init {source}")
    name = source.removeprefix(TIMM)
    if not timm.is_model(name):
        raise unknown("timm model", name, timm.list_models())
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"--init {source}: could not fetch the weights ({_reason(error)}): "
            "fetch them by other means and give --init the file"
        ) from None
    return network.state_dict()


def _reason(error: Exception) -> str:
    """The first line of what went wrong: an unreachable host makes libraries talk at length."""
    lines = str(getattr(error, "reason", error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
