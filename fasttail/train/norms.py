"""The L2 norms of a step's gradient and of its update of the weights, over all that is trained.

They stay on the device until somebody reads them; a step that nobody asks about costs nothing.
"""

import math

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm


class Norms:
    """Of one step: `before` the optimizer's update, then `after` it, and `read` whenever the device
    is waited for anyway."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._weights = [p for group in optimizer.param_groups for p in group["params"]]
        self._before: list[Tensor] = []
        self._norms: list[Tensor] = []

    @torch.no_grad()
    def before(self) -> None:
        """The gradient as the optimizer takes it, loss scaling undone; keeps a copy of the
        weights."""
        gradients = [p.grad for p in self._weights if p.grad is not None]
        self._norms = [get_total_norm(gradients)]
        self._before = [p.detach().clone() for p in self._weights]

    @torch.no_grad()
    def after(self) -> None:
        """The update. The copy has replaced the activations, so memory's peak is no higher."""
        for before, weight in zip(self._before, self._weights, strict=True):
            before.sub_(weight)
        self._norms.append(get_total_norm(self._before))
        self._before = []

    def read(self) -> dict[str, float | None]:
        """The norms, None for one that is not finite: fp16's loss scaler leaves such steps out."""
        values = torch.stack(self._norms).tolist()
        return {
            name: value if math.isfinite(value) else None
            for name, value in zip(("gradient_norm", "update_norm"), values, strict=True)
        }
