"""Any classifier of torchvision as a backbone: `torchvision:NAME`, or `torchvision:Enum.MEMBER` for
one of several published weights."""

from typing import Any

import torchvision.models
from torch import Tensor, nn
from torchvision.models import (
    WeightsEnum,
    get_model,
    get_model_weights,
    get_weight,
    list_models,
)

from fasttail.errors import UserError, unknown
from fasttail.models.expected import Expected

PREFIX = "torchvision:"
# Their published weights are for images that these two normalise once more. Without `init_weights`
# they warn, and draw weights by SciPy for a minute.
OWN_OPTIONS: dict[str, dict[str, Any]] = {
    name: {"init_weights": False, "transform_input": True} for name in ("googlenet", "inception_v3")
}


class TorchvisionBackbone(nn.Module):
    """Images [B, 3, H, W] -> features [B, features_dim]: what the last linear layer gets."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name, model = name, _model_of(name)
        self.network = get_model(model, weights=None, **OWN_OPTIONS.get(model, {}))
        head, layer = _head(name, self.network)
        self.features_dim = layer.in_features
        self.heads = (f"{head}.",)
        self.network.set_submodule(head, nn.Identity())

    @staticmethod
    def check_name(name: str) -> None:
        """Raises `UserError` if torchvision has no network of that name."""
        _model_of(name)

    @property
    def expected(self) -> Expected:
        """As the transforms of the weights say."""
        weights = weights_of(self._name, "--backbone")
        transforms = weights.transforms()
        return Expected(
            f"the transforms of torchvision's {weights}",
            px=transforms.crop_size[0],
            resize_px=transforms.resize_size[0],
            view="center",
            interpolation=transforms.interpolation.value,
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
        )

    @property
    def last_block(self) -> nn.Module:
        """torchvision does not say what the last stage of a network is."""
        raise UserError(
            f"{self._name}: which is its last block is not known: take the network as timm:NAME, "
            "or a ResNet by fasttail's own name"
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.network(images_BCHW)


def weights_of(source: str, option: str) -> WeightsEnum:
    """The published weights that `source` names. A model's name means its first ones
    (IMAGENET1K_V1), which are trained by the recipe that the long-tail literature starts from."""
    name = source.removeprefix(PREFIX)
    if "." in name:
        try:
            return get_weight(name)
        except (ValueError, AttributeError, KeyError) as error:
            raise UserError(f"{option} {source}: {error}") from None
    if name not in list_models():
        raise unknown("torchvision model", name, list_models())
    members = list(get_model_weights(name))
    if not members:
        raise UserError(f"{option} {source}: torchvision publishes no weights of {name}")
    return members[0]


def _model_of(name: str) -> str:
    """The name of the network itself."""
    model, classifiers = name.removeprefix(PREFIX), list_models(module=torchvision.models)
    if "." in model:
        kind = type(weights_of(name, "--backbone"))
        model = next((known for known in classifiers if get_model_weights(known) is kind), model)
    if model not in classifiers:
        raise unknown("backbone", name, [PREFIX + known for known in classifiers])
    return model


def _head(name: str, network: nn.Module) -> tuple[str, nn.Linear]:
    """The last linear layer, and what it is called."""
    layers = [(at, of) for at, of in network.named_modules() if isinstance(of, nn.Linear)]
    if not layers:
        raise UserError(f"{name}: it has no linear classifier, so no features to put heads on")
    return layers[-1]
