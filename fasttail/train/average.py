"""The exponential moving average of a model's weights (Polyak and Juditsky 1992, as it is done now:
Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017)."""

import copy

import torch

from fasttail.models import Recognizer


class Average:
    """Follows a model step by step; `model` is the average, which nothing trains.

    After step t, counted from 0, it is `d` of what it was and 1 - d of the model's weights, where d
    is the lesser of `decay` and (1 + t) / (10 + t): the first steps are soon forgotten. BatchNorm's
    running statistics are averaged like weights.
    """

    def __init__(self, model: Recognizer, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay
        pairs = list(zip(self._values(self.model), self._values(model), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in what the model is after a step."""
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(*map(list, zip(*self._averaged, strict=True)), weight)
        for average, value in self._copied:
            average.copy_(value)

    @staticmethod
    def _values(model: Recognizer) -> list[torch.Tensor]:
        return [*model.parameters(), *model.buffers()]
