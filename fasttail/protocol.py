"""`--protocol official`: as the authors' code does it (facebookresearch/classifier-balancing), for
its numbers' sake.

Every difference to the clean protocol is a value of the configuration, so that each can be had, and
measured, on its own. The official protocol is all of them at once, whatever the recipe says; what
is no matter of the protocol (rates, epochs, batch sizes) stays the recipe's.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from fasttail.config import Section, TrainConfig

S = TypeVar("S", bound=Section)

OFFICIAL: dict[str, Any] = {
    "draws": "official",
    "keep": "best",
    "model": {"batchnorm": "train"},  # model.train() for the whole network, frozen or not
    "optim": {"lr_per": "epoch"},
    "classify": {
        "features": "images",  # heads see augmented images, not stored features
        "batchnorm": "train",
        "order": "official",
        "keep": "best",
        "crt": {"lr_per": "epoch"},
        "lws": {"lr_per": "epoch"},
        "tau": {"grid_max": 2.0, "grid_step": 0.1, "bias": False, "choose_by": "macro"},
        "ncm": {"transform": "cl2n", "metric": "l2"},
    },
    "shots": {"empty": "zero"},
}


def named(method: str, protocol: str) -> str:
    """What the head that a method makes under a protocol is called, in files, columns and curves:
    `crt`, `crt-official`. Stage 1 has one classifier, whatever its protocol: `joint`."""
    return method if protocol == "clean" or method == "joint" else f"{method}-{protocol}"


def reported(split_names: Iterable[str]) -> str | None:
    """The split that tables are of: test where there is one, else val."""
    there = set(split_names)
    return next((name for name in ("test", "val") if name in there), None)


def settle(config: TrainConfig, split_names: Iterable[str]) -> TrainConfig:
    """The configuration with all that its protocol says put in."""
    if config.protocol != "official":
        return config
    # Their script prints every tau's accuracies; its reader takes the best.
    choose_on = reported(split_names) or "fixed"
    return _with(_with(config, OFFICIAL), {"classify": {"tau": {"choose_on": choose_on}}})


def _with(section: S, values: Mapping[str, Any]) -> S:
    """A section with values of its own and of sections within it changed."""
    changed = {
        key: _with(getattr(section, key), value) if isinstance(value, Mapping) else value
        for key, value in values.items()
    }
    return section.model_copy(update=changed)
