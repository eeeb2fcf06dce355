"""Engines: image bytes + plan -> uint8 batches. `make("auto", split, ...)` picks one.

An engine is one module with one class; see `base.py` for what it promises.
"""

import logging
import os
from collections.abc import Callable

import torch

from fasttail.engines.base import Engine
from fasttail.engines.source import Source
from fasttail.errors import unknown
from fasttail.world import World

log = logging.getLogger(__name__)


def _reference(split: Source, device: torch.device, threads: int) -> Engine:
    from fasttail.engines.reference import Reference

    return Reference(split, device=device)


def _synthetic(split: Source, device: torch.device, threads: int) -> Engine:
    from fasttail.engines.synthetic import Synthetic

    return Synthetic(split, device=device)


def _ffcv(split: Source, device: torch.device, threads: int) -> Engine:
    from fasttail.engines.ffcv import Ffcv

    return Ffcv(split, device=device, threads=threads)


def _dali(split: Source, device: torch.device, threads: int) -> Engine:
    from fasttail.engines.dali import Dali

    return Dali(split, device=device, threads=threads)


def _dali_region(split: Source, device: torch.device, threads: int) -> Engine:
    from fasttail.engines.dali import Dali

    return Dali(split, device=device, threads=threads, name="dali-region", regions=True)


def _resident(split: Source, device: torch.device, threads: int) -> Engine:
    from fasttail.engines.resident import Resident

    return Resident(split, device=device, threads=threads)


ENGINES: dict[str, Callable[[Source, torch.device, int], Engine]] = {
    "ffcv": _ffcv,
    "dali": _dali,
    "dali-region": _dali_region,
    "resident": _resident,
    "reference": _reference,
    "synthetic": _synthetic,
}


def names() -> list[str]:
    """What `make` takes."""
    return ["auto", *ENGINES]


def make(name: str, split: Source, *, device: torch.device, threads: int) -> Engine:
    """The engine `name` over `split`, whose batches arrive on `device`.

    `threads` is how many threads decode; 0 means this process's share of the cores. Raises
    `UserError` for an unknown name, and `NotHere` if something is missing that it needs.
    """
    if threads == 0:
        threads = max(1, len(os.sched_getaffinity(0)) // World.from_env().local_size)
    if name == "auto":
        from fasttail.engines.auto import choose

        name, why = choose(split, device)
        log.info("engine %s: %s", name, why)
    if name not in ENGINES:
        raise unknown("engine", name, names())
    return ENGINES[name](split, device, threads)
