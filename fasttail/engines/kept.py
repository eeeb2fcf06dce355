"""The engines of a job: one a split, made at the first asking and kept to the end.

Making one is dear: threads, checksums that begin again, DALI's pipelines, a split decoded whole.
"""

import torch

from fasttail import engines
from fasttail.config import DataConfig
from fasttail.engines.base import Engine
from fasttail.shards import Split


class Kept:
    """Engines for any number of looks at a job's splits. Leaving its block closes them."""

    def __init__(self, config: DataConfig, device: torch.device) -> None:
        self._name, self._threads, self._device = config.engine, config.threads, device
        self._engines: dict[tuple[str, str], Engine] = {}

    def of(self, split: Split) -> Engine:
        """A split's engine; what it promises is in `fasttail.engines.base`."""
        key = (str(split.dir), split.name)
        if key not in self._engines:
            self._engines[key] = engines.make(
                self._name, split, device=self._device, threads=self._threads
            )
        return self._engines[key]

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *_: object) -> None:
        while self._engines:
            self._engines.popitem()[1].close()
