"""Where an iteration over epochs stands, and how it is resumed.

Each iteration begins an epoch: the one that was set or loaded, or else the one after the last that
was begun. A loaded one begins in its middle.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fasttail.errors import UserError


class Cursor:
    """`step` batches of `epoch` have been handed out. `settings` gives what the batches depend on:
    a state is resumed under the same only."""

    def __init__(self, settings: Callable[[], Mapping[str, Any]]) -> None:
        self.epoch = self.step = 0
        self._begun = 0
        self._next = (0, 0)
        self._settings = settings

    def set_epoch(self, epoch: int) -> None:
        """The next iteration begins this epoch; a loaded state of it keeps its step."""
        self.seek(epoch, self._next[1] if self._next[0] == epoch else 0)

    def seek(self, epoch: int, step: int) -> None:
        """The next iteration begins with this step of this epoch."""
        self.epoch, self.step = self._next = (epoch, step)
        self._begun = epoch

    def begin(self) -> tuple[int, int]:
        """An iteration begins: its epoch, and the first step of it that has not been handed out."""
        self.epoch, self.step = self._next
        self._begun, self._next = self.epoch, (self.epoch + 1, 0)
        return self.epoch, self.step

    def end(self) -> None:
        """The epoch was handed out whole."""
        self.epoch, self.step = self._next

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """`batches` is how many of the epoch begun last count as handed out, where somebody asks
        for them ahead."""
        epoch, step = self.epoch, self.step
        if batches is not None:
            epoch, step = self._begun, batches
        return {"epoch": epoch, "step": step, "settings": dict(self._settings())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken. `UserError` if the batches are others now, or if it
        is no state."""
        try:
            epoch, step, saved = int(state["epoch"]), int(state["step"]), dict(state["settings"])
        except (KeyError, TypeError, ValueError):
            raise UserError(
                "this is no state of a loader or sampler: give what its state_dict() returned"
            ) from None
        for name, value in self._settings().items():
            if saved.get(name) != value:
                raise UserError(
                    f"the state is of {name} {saved.get(name)!r}, but this is of {value!r}: "
                    "load it with the data and settings that it was saved with"
                )
        self.seek(epoch, step)
