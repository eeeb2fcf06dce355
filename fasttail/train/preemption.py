"""Being asked to leave: SIGTERM (schedulers, torchrun, docker stop) and SIGUSR1 (Slurm's warning).

The handler only sets a flag. The training loop looks at it between steps, writes a checkpoint and
ends, so that nothing is lost but the step under way.
"""

import signal
import threading
from types import FrameType
from typing import Any

import torch

from fasttail.compute import Compute
from fasttail.world import World

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(Exception):
    """The training was asked to leave, and has written its checkpoint."""


class Preemption:
    """Listens for the signals while its block lasts; what handled them before does so afterwards.

    Outside the main thread, where Python allows no handlers, it never asks to leave.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._note) for name in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def asked(self, world: World, compute: Compute, *, agree: bool) -> bool:
        """Whether to leave now. With several processes the answer is the same in all of them, since
        one that left alone would leave the others waiting for its gradients; so it is given only
        where `agree` says that all have come to the same place."""
        if world.size == 1:
            return self._asked
        if not agree:
            return False
        flag = torch.tensor([self._asked], dtype=torch.int32, device=compute.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag.item())
