"""Preemption: SIGTERM (schedulers, torchrun, docker stop), SIGUSR1 (Slurm's warning) and
SIGINT (Ctrl-C).

The handler only takes a note. The training loop looks at it between steps, writes a checkpoint and
ends, so that nothing is lost. A second Ctrl-C does not wait for that.
"""

import signal
import threading
from types import FrameType
from typing import Any

import torch

from fasttail.compute import Compute
from fasttail.world import World

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Preempted(Exception):
    """The training was preempted by `signal`, and has saved its checkpoint."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)


class Preemption:
    """Listens for the signals while its block lasts; what handled them before does so afterwards.

    Outside the main thread, where Python allows no handlers, it never asks to leave.
    """

    def __init__(self) -> None:
        self._signal = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._note) for name in _listened_to()}
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal:
            raise KeyboardInterrupt
        self._signal = number

    def asked(self, world: World, compute: Compute, *, agree: bool) -> int:
        """The signal to leave by now, or 0. With several processes the answer is the same in all of
        them, since one that left alone would leave the others waiting for its gradients; so it is
        given only where `agree` says that all have come to the same place."""
        if world.size == 1:
            return self._signal
        if not agree:
            return 0
        number = torch.tensor([self._signal], dtype=torch.int32, device=compute.device)
        torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
        return int(number.item())


def _listened_to() -> list[signal.Signals]:
    """Ctrl-C is not for a job that a shell has started in the background: it is ignored there."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return [name for name in SIGNALS if not (ignored and name is signal.SIGINT)]
