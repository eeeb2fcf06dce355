"""Weights as safetensors; optimizer state beside them, read with `weights_only`. No pickle is run.

A checkpoint is two files written one after the other, each under its final name only when whole.
The weights carry the position they belong to, so that a kill between the two is seen: the pair
whose positions agree is the one to go on from, and the pair before is kept until then.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fasttail import records
from fasttail.atomic import whole_file
from fasttail.errors import UserError
from fasttail.records import Form

FORMAT = "fasttail-1"


@dataclass(frozen=True, order=True)
class Position:
    """Where in the training a checkpoint stands: `step` steps of `epoch` are done."""

    epoch: int
    step: int


def save_weights(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes tensors with a description, atomically."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Written by us rather than by the libraries, whose own errors don't tell a full disk.
    with whole_file(path) as file:
        # One key: of several safetensors makes another order, and so other bytes, in each process.
        file.write(save(whole, {FORMAT: json.dumps(about)}))


def load_weights(path: Path, form: type[Form] = Form) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors on the CPU and their description, which is of the form.

    Raises `UserError` if the file is missing, damaged, or no weights of fasttail's.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of weights")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not readable as safetensors: {error}") from None
    if FORMAT not in header:
        found = next(iter(header), None)
        raise UserError(f"{path}: format {found!r}, but this version reads {FORMAT!r}")
    try:
        about = json.loads(header[FORMAT])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: {_line(error)}") from None
    return tensors, records.check(about, form, path)


def put_weights(model: torch.nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Weights that were read from `path` become a run's model's. `UserError` if they are another
    network's than run.json names."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[-1].strip()
        raise UserError(
            f"{path}: not the weights of the network that run.json names: {reason[:200]}"
        ) from None


class Checkpoints:
    """The resumable state of a training in a directory: two slots, written in turn.

    Two slots, because a checkpoint is two files: while one slot is written, the other is whole.
    Beside them are weights alone: `best.safetensors`, and those of epochs that are kept for good.
    """

    SLOTS = ("a", "b")
    BEST = "best.safetensors"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._next = 0
        self.damage = ""

    def save(self, position: Position, model: torch.nn.Module, state: Mapping[str, Any]) -> None:
        """Writes the weights and the rest of the state for this position."""
        self.directory.mkdir(parents=True, exist_ok=True)
        slot = self.SLOTS[self._next]
        packed = io.BytesIO()
        torch.save({**state, "position": asdict(position)}, packed)
        with whole_file(self.directory / f"{slot}.state.pt") as file:
            file.write(packed.getbuffer())
        save_weights(
            self.directory / f"{slot}.safetensors",
            model.state_dict(),
            {"position": asdict(position)},
        )
        self._next = 1 - self._next

    def keep(self, name: str, model: torch.nn.Module, about: Mapping[str, Any]) -> None:
        """Writes the weights alone under a name of their own."""
        self.directory.mkdir(parents=True, exist_ok=True)
        save_weights(self.directory / name, model.state_dict(), about)

    def latest(self) -> tuple[Position, dict[str, Tensor], dict[str, Any]] | None:
        """The furthest whole checkpoint: position, weights and the rest; None if there is none.

        A slot that is damaged is passed over, and `damage` then says why. Raises `UserError` if
        nothing else is left.
        """
        found = []
        self.damage = ""
        for slot in self.SLOTS:
            try:
                read = self._read(slot)
            except UserError as error:
                self.damage = str(error)
            else:
                if read is not None:
                    found.append((slot, *read))
        if not found:
            if self.damage:
                raise UserError(
                    f"{self.damage}: no intact checkpoint is left: start the training again with "
                    "another --run"
                )
            return None
        slot, position, weights, state = max(found, key=lambda item: item[1])
        self._next = 1 - self.SLOTS.index(slot)
        return position, weights, state

    def _read(self, slot: str) -> tuple[Position, dict[str, Tensor], dict[str, Any]] | None:
        """What is in a slot; None if it is not there, or a kill came between its two files."""
        weights_path = self.directory / f"{slot}.safetensors"
        state_path = self.directory / f"{slot}.state.pt"
        if not (weights_path.exists() and state_path.exists()):
            return None
        weights, about = load_weights(weights_path)
        try:
            state = torch.load(state_path, map_location="cpu", weights_only=True)
            position = Position(**state.pop("position"))
        # A damaged file makes torch raise whatever Python raises; EOFError would end as "Aborted".
        except Exception as error:  # noqa: BLE001
            raise UserError(f"{state_path}: damaged: {_line(error)}") from None
        return (position, weights, state) if asdict(position) == about.get("position") else None


def _line(error: Exception) -> str:
    """What an error says, as the beginning of one line."""
    return f"{type(error).__name__}: {error}".split("\n")[0][:200].strip()
