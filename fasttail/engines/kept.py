"""The engines of a job: one a split, made at the first asking and kept to the end.

Making one is dear: threads, checksums that begin again, DALI's pipelines, a split decoded whole.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist

from fasttail import engines
from fasttail.config import DataConfig
from fasttail.engines import auto, trial
from fasttail.engines.base import Engine, Plan
from fasttail.engines.trial import Choice
from fasttail.shards import Split
from fasttail.world import World


class Kept:
    """Engines for any number of looks at a job's splits. Leaving its block closes them.

    `decoder` is what `auto` meant for the images of the training that this job goes on with.
    """

    def __init__(
        self, config: DataConfig, device: torch.device, decoder: str | None = None
    ) -> None:
        self._name, self._threads, self._device = config.engine, config.threads, device
        self._decoder = decoder if decoder in auto.decoders(device) else None
        self._engines: dict[tuple[str, str], Engine] = {}

    def settle(
        self, split: Split, plan: Plan, network: Callable[[], float], world: World
    ) -> Choice | None:
        """Decides what `auto` means, by what a training will decode and how many images a second
        its network takes (`network` measures it); None if that is said or decided already. All
        processes of the job call it, and the main one decides."""
        if self._name != "auto" or self._decoder is not None:
            return None
        if not trial.rivals(split, self._device):
            return Choice(*auto.choose(split, self._device))
        needed = network()  # together, since networks may talk to each other
        found: list[Choice | None] = [None]
        if world.is_main:
            found[0] = trial.choose(
                split, plan, device=self._device, threads=self._threads, needed=needed
            )
        if world.size > 1:
            dist.broadcast_object_list(found, src=0)
        assert found[0] is not None
        self._decoder = found[0].engine
        return found[0]

    def of(self, split: Split) -> Engine:
        """A split's engine; what it promises is in `fasttail.engines.base`."""
        key = (str(split.dir), split.name)
        if key not in self._engines:
            self._engines[key] = engines.make(
                self._name_for(split), split, device=self._device, threads=self._threads
            )
        return self._engines[key]

    def _name_for(self, split: Split) -> str:
        """What is decided is for images that have to be decoded: small ones stay resident."""
        if self._name == "auto" and auto.choose(split, self._device)[0] != "resident":
            return self._decoder or self._name
        return self._name

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *_: object) -> None:
        while self._engines:
            self._engines.popitem()[1].close()
