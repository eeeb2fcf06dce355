"""A training's log: log.jsonl (one object a line), TensorBoard, the progress bar's note."""

import json
import time
from pathlib import Path
from typing import Any

import torch


class RunLog:
    """Appends to log.jsonl and to TensorBoard's events; on processes but the main one, does
    nothing.

    Every line has `time` (Unix seconds) and `kind`.
    """

    def __init__(self, path: Path, *, enabled: bool, tensorboard: bool) -> None:
        self._file = path.open("a", encoding="utf-8") if enabled else None
        self._board = None
        if enabled and tensorboard:
            from torch.utils.tensorboard import SummaryWriter

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

    def scalars(self, kind: str, global_step: int, **values: float) -> None:
        """One line, and each value as a curve over the global step."""
        self.write(kind, global_step=global_step, **values)
        if self._board is not None:
            for name, value in values.items():
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

    def read(self, last_step: int) -> dict[str, float]:
        """Mean loss, images/s of this process and the share of time spent waiting for data; then
        starts anew. `last_step` is the step noted last.

        Raises `FloatingPointError` naming the step and the sample ids if a loss was not finite.
        """
        losses = torch.stack(self._losses).float().cpu()
        elapsed_s = time.perf_counter() - self._start_s
        bad = torch.nonzero(~torch.isfinite(losses)).flatten()
        if len(bad):
            first = int(bad[0])
            step = last_step - len(losses) + 1 + first
            raise FloatingPointError(
                f"loss is {losses[first].item()} at step {step}; samples of its batch on this "
                f"process: {self._ids[first].tolist()}"
            )
        values = {
            "loss": losses.mean().item(),
            "images_per_s": self._images / elapsed_s,
            "waiting_share": self._wait_s / elapsed_s,
        }
        self._reset()
        return values
