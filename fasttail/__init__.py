"""fasttail: training image classifiers on long-tailed data.

An epoch is a plan, and a plan is a pure function of (seed, epoch, position): see `fasttail.plan`.

    Loader                  shards -> images that a network takes
    open_shards             a converted data set, to look into
    fit_heads               class-balanced classifiers on features of any backbone
    BalancedBatchSampler    the plan's order for your own Dataset in torch's DataLoader

Importing this imports none of it: each name is looked up at its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fasttail.heads import fit_heads
    from fasttail.loader import Loader
    from fasttail.sampler import BalancedBatchSampler
    from fasttail.shards import open as open_shards

__version__ = "0.1.0"
__all__ = ["BalancedBatchSampler", "Loader", "fit_heads", "open_shards"]

_HOMES = {
    "BalancedBatchSampler": ("fasttail.sampler", "BalancedBatchSampler"),
    "Loader": ("fasttail.loader", "Loader"),
    "fit_heads": ("fasttail.heads", "fit_heads"),
    "open_shards": ("fasttail.shards", "open"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
