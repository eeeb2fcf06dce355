"""A model's right answers on a split, against a plain loop in NumPy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fasttail import shards
from fasttail.compute import Compute
from fasttail.config import DataConfig, TrainConfig
from fasttail.engines.kept import Kept
from fasttail.evaluate.score import score
from fasttail.evaluate.shots import Tally
from fasttail.models import Recognizer
from fasttail.world import World

CONFIG = TrainConfig(data=DataConfig(px=32, eval_view="whole", eval_batch_size=7))


class Backbone(nn.Module):
    """Images -> their 32 x 32 brightnesses through BatchNorm and dropout."""

    features_dim = 1024

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(1024)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        x = self.bn(images_BCHW.mean(1).flatten(1))
        return nn.functional.dropout(x, 0.5, self.training)


def tally(model: Recognizer, shards_dir: Path, dtype: torch.dtype = torch.float32) -> Tally:
    compute = Compute(torch.device("cpu"), dtype, channels_last=False)
    with Kept(CONFIG.data, compute.device) as engines:
        return score(
            model,
            shards.open(shards_dir),
            "test",
            config=CONFIG,
            compute=compute,
            world=World(),
            engines=engines,
        )


def images(shards_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """The split's brightnesses, normalised, float64 [N, 1024], and labels."""
    opened = shards.open(shards_dir)
    split, meta = opened.split("test"), opened.meta
    pixels = np.stack([split.bytes(i).reshape(32, 32, 3) for i in range(len(split))])
    normal = (pixels / 255 - meta.mean) / meta.std
    return normal.mean(-1).reshape(len(split), -1), np.asarray(split.labels_N)


def test_a_model_in_train_mode_is_scored_in_evaluation(blob_shards: Path) -> None:
    torch.manual_seed(0)
    model = Recognizer(Backbone(), nn.Linear(1024, 5))
    features_ND, labels_N = images(blob_shards)
    weight_CD = model.classifier.weight.detach().double().numpy()
    logits_NC = features_ND @ weight_CD.T + model.classifier.bias.detach().double().numpy()
    right = (logits_NC.argmax(1) == labels_N).sum()
    assert 0 < right < len(labels_N)
    model.train()
    first = tally(model, blob_shards)
    assert first.correct_C.sum() == pytest.approx(right, abs=1)  # BatchNorm adds 1e-5
    assert not model.training
    model.train()
    np.testing.assert_array_equal(tally(model, blob_shards).correct_C, first.correct_C)
    assert torch.equal(model.backbone.bn.running_mean, torch.zeros(1024))  # type: ignore[arg-type]


def test_logits_that_mixed_precision_would_make_equal_are_told_apart(blob_shards: Path) -> None:
    model = Recognizer(nn.Flatten(), nn.Linear(3072, 5))
    _, labels_N = images(blob_shards)
    with torch.no_grad():
        model.classifier.weight.zero_()
        # Rising by less than bfloat16 tells: its numbers about 100 are half apart.
        model.classifier.bias.copy_(100 + 0.01 * torch.arange(5))
    assert len(set(model.classifier.bias.bfloat16().tolist())) == 1
    found = tally(model, blob_shards, torch.bfloat16).correct_C
    assert found.tolist() == [0, 0, 0, 0, int((labels_N == 4).sum())]
