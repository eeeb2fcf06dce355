"""fasttail: long-tailed image recognition whose input side is never the bottleneck.

An epoch is a plan, and a plan is a pure function of (seed, epoch, position): see `fasttail.plan`.

    BalancedBatchSampler    the plan's order for your own Dataset in torch's DataLoader

Importing this imports none of it: each name is looked up at its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fasttail.sampler import BalancedBatchSampler

__version__ = "0.1.0"
__all__ = ["BalancedBatchSampler"]

_HOMES = {"BalancedBatchSampler": "fasttail.sampler"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
