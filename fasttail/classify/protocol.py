"""`--protocol official`: stage 2 as the authors' code does it (facebookresearch/
classifier-balancing), for its numbers' sake.

Every difference to the clean protocol is a value of the configuration, so that each can be had, and
measured, on its own. The official protocol is all of them at once, whatever the recipe says; what
is no matter of the protocol (rates, epochs, batch sizes) stays the recipe's.
"""

from collections.abc import Iterable
from typing import Any

from fasttail.config import ClassifyConfig, TrainConfig

OFFICIAL_CLASSIFY: dict[str, Any] = {
    "features": "images",  # heads see augmented images, not stored features
    "batchnorm": "train",  # model.train() for the whole network, frozen or not
    "order": "official",
    "lr_per": "epoch",
    "keep": "best",
}
OFFICIAL_TAU: dict[str, Any] = {
    "grid_max": 2.0,
    "grid_step": 0.1,
    "bias": False,
    "choose_by": "micro",
}
OFFICIAL_NCM: dict[str, Any] = {"transform": "cl2n", "metric": "dot"}


def reported(split_names: Iterable[str]) -> str | None:
    """The split that tables are of: test where there is one, else val."""
    there = set(split_names)
    return next((name for name in ("test", "val") if name in there), None)


def settle(config: TrainConfig, split_names: Iterable[str]) -> TrainConfig:
    """The configuration with all that its protocol says of stage 2 and of the numbers put in."""
    if config.protocol != "official":
        return config
    classify = config.classify
    tau = {**OFFICIAL_TAU, "choose_on": reported(split_names) or "fixed"}
    changes = {
        **OFFICIAL_CLASSIFY,
        "tau": classify.tau.model_copy(update=tau),
        "ncm": classify.ncm.model_copy(update=OFFICIAL_NCM),
    }
    return config.model_copy(
        update={
            "classify": classify.model_copy(update=changes),
            "shots": config.shots.model_copy(update={"empty": "zero"}),
        }
    )


def for_plans(config: TrainConfig, classify: ClassifyConfig) -> TrainConfig:
    """The configuration that stage 2's draws are planned by."""
    kind = "official" if classify.order == "official" else "clean"
    return config.model_copy(update={"protocol": kind})
