"""Where the time of a training goes, measured on the product's own loop: its parts are functions
and methods, and a clock stands at their doors while the loop runs.

Seconds are exclusive: what one part does within another counts for the inner one alone, and what
no part claims is the loop's. On a GPU every door waits for the device: the parts are true then, and
the whole is slower than without the clock.
"""

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F

from fasttail import engines, loader
from fasttail.engines.base import Batch, Engine, Plan
from fasttail.models import Recognizer
from fasttail.train import checkpoint, log, rep

INSIDE = ("forward", "loss", "backward", "optimizer")
IMAGES, LOOP = "plan and images", "the loop itself"
OUTSIDE = (IMAGES, "augment", "log", "checkpoint", LOOP)
# Whose attribute, by which name: where the loop looks the part up.
DOORS: tuple[tuple[str, Any, str], ...] = (
    ("augment", loader, "augmented"),
    ("forward", Recognizer, "forward"),
    ("loss", F, "cross_entropy"),
    ("backward", torch.Tensor, "backward"),
    ("optimizer", torch.optim.SGD, "step"),
    ("optimizer", torch.optim.Optimizer, "zero_grad"),
    ("log", log.Meter, "read"),
    ("log", log.RunLog, "scalars"),
    ("checkpoint", checkpoint.Checkpoints, "save"),
    ("checkpoint", rep, "save_weights"),
)


class PartsClock:
    """Within its block, trainings are timed from the end of the first `skip_epochs` epochs on.

    `seconds` then has every part's, and those of the loop itself.
    """

    def __init__(self, *, skip_epochs: int, device: str) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps = 0
        self._skip = skip_epochs
        self._on_gpu = device == "cuda"
        self._parts = [LOOP]
        self._since_s: float | None = None
        self._doors = ExitStack()

    def __enter__(self) -> "PartsClock":
        for part, owner, name in DOORS:
            door = self._door(part, getattr(owner, name))
            self._doors.enter_context(mock.patch.object(owner, name, door))
        make = self._timed_engines(engines.make)
        self._doors.enter_context(mock.patch.object(engines, "make", make))
        return self

    def __exit__(self, *_: object) -> None:
        self._charge()
        self._doors.close()
        for part in (*INSIDE, *OUTSIDE):
            self.seconds.setdefault(part, 0.0)

    def _charge(self) -> None:
        """Time since the last door goes to whoever is inside."""
        if self._since_s is None:
            return
        if self._on_gpu:
            torch.cuda.synchronize()
        now_s = time.perf_counter()
        self.seconds[self._parts[-1]] += now_s - self._since_s
        self._since_s = now_s

    @contextmanager
    def _inside(self, part: str) -> Iterator[None]:
        self._charge()
        self._parts.append(part)
        try:
            yield
        finally:
            self._charge()
            self._parts.pop()

    def _door(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            with self._inside(part):
                return function(*args, **options)

        return timed

    def _timed_engines(self, make: Callable[..., Engine]) -> Callable[..., Engine]:
        def timed(*args: Any, **options: Any) -> Engine:
            return _TimedEngine(make(*args, **options), self)

        return timed

    def epoch_begins(self) -> None:
        """The clock starts with the first epoch that counts."""
        if self._skip == 0 and self._since_s is None:
            self._since_s = time.perf_counter()
        self._skip -= 1

    def waiting(self, batches: Generator[Batch]) -> Generator[Batch]:
        """The batches, the time to get each charged to the images."""
        try:
            while True:
                with self._inside(IMAGES):
                    batch = next(batches, None)
                if batch is None:
                    return
                self.steps += self._since_s is not None
                yield batch
        finally:
            batches.close()


class _TimedEngine:
    """An engine whose batches are waited for by the clock."""

    def __init__(self, engine: Engine, clock: PartsClock) -> None:
        self._engine, self._clock = engine, clock
        self.name, self.device = engine.name, engine.device

    def run(self, plan: Plan, start: int = 0) -> Generator[Batch]:
        self._clock.epoch_begins()
        return self._clock.waiting(self._engine.run(plan, start))

    def close(self) -> None:
        self._engine.close()
