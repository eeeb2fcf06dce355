"""What `auto` means where there is a GPU and several engines can decode: each is tried a second.

The fastest is not always the best: one that decodes on the CPU leaves the whole GPU to the network,
and wins as soon as it gives more images than the network takes.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count

import torch

from fasttail import engines
from fasttail.engines import auto
from fasttail.engines.base import Engine, Plan
from fasttail.engines.source import Source
from fasttail.errors import NotHere

log = logging.getLogger(__name__)

SECONDS = 1.0
SPARE = 1.1  # times what the network takes: an engine is not as fast beside a training
ON_THE_CPU = ("ffcv", "reference")


@dataclass(frozen=True)
class Choice:
    """An engine, the reason in words, and what was measured, in images a second."""

    engine: str
    why: str
    images_per_s: Mapping[str, float] = field(default_factory=dict)
    network_images_per_s: float | None = None


def rivals(split: Source, device: torch.device) -> list[str]:
    """The engines to choose from; none where there is no choice."""
    decoders = auto.decoders(device)
    return decoders if len(decoders) > 1 and auto.choose(split, device)[0] in decoders else []


def choose(
    split: Source, plan: Plan, *, device: torch.device, threads: int, needed: float
) -> Choice:
    """The engine for a training that will decode what `plan` says, and whose network takes
    `needed` images a second."""
    rates = {name: _tried(name, split, plan, device, threads) for name in rivals(split, device)}
    rates = {name: found for name, found in rates.items() if found > 0}
    return best(rates, needed) if rates else Choice(*auto.choose(split, device))


def best(rates: Mapping[str, float], needed: float) -> Choice:
    """Of engines by their images a second, where the network takes `needed`."""
    enough = [name for name in rates if name in ON_THE_CPU and rates[name] >= SPARE * needed]
    name = enough[0] if enough else max(rates, key=lambda rival: rates[rival])
    measured = ", ".join(f"{rival} {found:,.0f}" for rival, found in rates.items())
    why = f"images/s: {measured}; the network takes {needed:,.0f}"
    return Choice(name, why, rates, needed)


def _tried(name: str, split: Source, plan: Plan, device: torch.device, threads: int) -> float:
    """Images a second of an engine; 0 where it does not work here."""
    try:
        with closing(engines.make(name, split, device=device, threads=threads)) as engine:
            images, seconds = run_for(SECONDS, engine, lambda epoch: plan)
    except (NotHere, RuntimeError, OSError) as error:
        log.warning("the engine %s does not work here: %s", name, error)
        return 0.0
    return images / seconds


def run_for(seconds: float, engine: Engine, plans: Callable[[int], Plan]) -> tuple[int, float]:
    """Runs an engine over epoch after epoch for so long: how many images in how many seconds. The
    first batch, with what is made ready for it, is not counted."""
    images, elapsed_s, start_s = 0, 0.0, None
    for epoch in count():
        with closing(engine.run(plans(epoch))) as batches:
            for batch in batches:
                if engine.device.type == "cuda":
                    torch.cuda.synchronize(engine.device)
                if start_s is None:
                    start_s = time.perf_counter()
                    continue
                images += len(batch.ids_B)
                elapsed_s = time.perf_counter() - start_s
                if elapsed_s > seconds:
                    return images, elapsed_s
    raise AssertionError("count() has no end")
