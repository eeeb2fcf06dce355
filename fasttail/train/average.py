"""The exponential moving average of a model's weights (Polyak and Juditsky 1992, as it is done now:
Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017)."""

import copy

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

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
        pairs = list(zip(_values(self.model), _values(model), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._averages, self._values = [mine for mine, _ in floats], [value for _, value in floats]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    def update(self, step: int) -> None:
        """Takes in what the model is after a step."""
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._averages, self._values, step)
        for mine, value in self._counts:
            mine.copy_(value)


def _values(model: Recognizer) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
