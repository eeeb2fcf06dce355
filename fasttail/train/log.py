"""A training's log: log.jsonl (one object a line), TensorBoard, and a note of progress."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fasttail.errors import UserError
from fasttail.world import World


class NonFiniteLoss(UserError):
    """A loss that is not finite: names the step and the samples of its batch."""


class RunLog:
    """Appends to log.jsonl and to TensorBoard's events; on processes but the main one, does
    nothing.

    Every line has `time` (Unix seconds) and `kind`. `without_tensorboard` is called where the
    events were wanted and the package is not there.
    """

    def __init__(
        self,
        path: Path,
        *,
        enabled: bool,
        tensorboard: bool,
        without_tensorboard: Callable[[], None],
    ) -> None:
        self._file = path.open("a", encoding="utf-8") if enabled else None
        self._board = None
        if enabled and tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                without_tensorboard()
            else:
                self._board = SummaryWriter(str(path.parent / "tensorboard"))

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, kind: str, **values: Any) -> None:
        """One line."""
        if self._file is not None:
            self._file.write(json.dumps({"time": time.time(), "kind": kind, **values}) + "\n")
            self._file.flush()

    def scalars(self, kind: str, global_step: int, **values: float | None) -> None:
        """One line, and each measured value (a float) as a curve over the global step."""
        self.write(kind, global_step=global_step, **values)
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{kind}/{name}", value, global_step)


class Meter:
    """What happened since the last line of the log, without a device sync a step.

    Losses stay on the device until `read`, which looks at them all at once.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._losses: list[torch.Tensor] = []
        self._ids: list[torch.Tensor] = []
        self._images = 0
        self._wait_s = 0.0
        self._start_s = time.perf_counter()

    def start(self) -> None:
        """Starts the clock: what came before (a look at val, say) is not counted."""
        self._start_s = time.perf_counter()

    def add(self, loss: torch.Tensor, ids_B: torch.Tensor, wait_s: float) -> None:
        """Notes one step: its loss (still on the device), its samples, the wait for them."""
        self._losses.append(loss.detach())
        self._ids.append(ids_B)
        self._images += len(ids_B)
        self._wait_s += wait_s

    def __len__(self) -> int:
        return len(self._losses)

    def check(self, last_step: int) -> None:
        """Looks at all losses since the last reading: before weights are kept, so that none are
        that a broken batch has spoiled. `last_step` is the step noted last.

        Raises `NonFiniteLoss` naming the step and the sample ids if a loss was not finite.
        """
        if not self._losses:
            return
        losses = torch.stack(self._losses).float().cpu()
        bad = torch.nonzero(~torch.isfinite(losses)).flatten()
        if len(bad):
            first = int(bad[0])
            raise NonFiniteLoss(
                f"loss is {losses[first].item()} at step {last_step - len(losses) + 1 + first}: "
                "lower the learning rate (--lr X), or look at the samples of its batch "
                f"on this process: {self._ids[first].tolist()}"
            )

    def values(self, last_step: int) -> dict[str, float]:
        """Mean loss, images/s of this process and the share of time spent waiting for data since
        the last reading. Raises as `check` does."""
        self.check(last_step)
        elapsed_s = time.perf_counter() - self._start_s
        return {
            "loss": torch.stack(self._losses).float().mean().item(),
            "images_per_s": self._images / elapsed_s,
            "waiting_share": self._wait_s / elapsed_s,
        }

    def read(self, last_step: int) -> dict[str, float]:
        """As `values`, which start from zero again."""
        values = self.values(last_step)
        self._reset()
        return values


def progress_note(epoch: int, epochs: int, values: dict[str, float], world: World) -> str:
    """What the line of progress says of a training; epochs from 0."""
    return (
        f"epoch {epoch + 1}/{epochs}, loss {values['loss']:.3f}, "
        f"{values['images_per_s'] * world.size:,.0f} images/s, "
        f"waiting for data {values['waiting_share']:.1%}"
    )
