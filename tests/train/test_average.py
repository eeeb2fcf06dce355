import plain
import torch
from torch import nn

from fasttail.models import Recognizer
from fasttail.train.average import Average


def test_the_average_is_the_papers_in_float64() -> None:
    backbone = plain.Plain()
    backbone.norm = nn.BatchNorm2d(3)
    model = Recognizer(backbone, nn.Linear(16, 4))
    average = Average(model, decay=0.8)
    expected = {name: value.double() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    for step in range(40):
        decay = min(0.8, (1 + step) / (10 + step))
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(torch.randn_like(value) if value.is_floating_point() else 1)
        average.update(step)
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    for name, value in average.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-5)
    assert average.model.state_dict()["backbone.norm.num_batches_tracked"] == 40
    assert decay == 0.8
    assert not any(value.requires_grad for value in average.model.parameters())
    assert all(value.requires_grad for value in model.parameters())
