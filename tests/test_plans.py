"""From the configuration to views."""

import numpy as np
import pytest

from fasttail.config import DataConfig
from fasttail.plan import boxes
from fasttail.plans import eval_view, train_view

SIZES_B = np.full(400, 40, np.int32), np.full(400, 60, np.int32)


@pytest.mark.parametrize("kind", ["random-resized-crop", "random-crop", "center", "whole"])
def test_every_view_of_training_is_flipped_and_jittered_as_configured(kind: str) -> None:
    data = DataConfig(px=32, resize_px=36, train_view=kind, flip_p=0.25, jitter=(0.4, 0.4, 0.4, 0))
    draw = train_view(data).at(seed=0, epoch=0)
    assert 60 < draw.flips(0, 400).sum() < 140
    jitter = draw.jitters(0, 400)
    assert jitter is not None
    assert jitter.factors_B4[:, 0].std() > 0.1
    plain = train_view(data.model_copy(update={"flip_p": 0.0, "jitter": None})).at(0, 0)
    assert not plain.flips(0, 400).any()
    assert plain.jitters(0, 400) is None
    # Flips and jitter have streams of their own: the boxes are the same without them.
    np.testing.assert_array_equal(draw.boxes(0, *SIZES_B), plain.boxes(0, *SIZES_B))


@pytest.mark.parametrize("kind", ["center", "whole"])
def test_a_view_of_evaluation_is_fixed_whatever_training_does(kind: str) -> None:
    data = DataConfig(px=32, resize_px=36, eval_view=kind, flip_p=1.0, jitter=(0.4, 0.4, 0.4, 0))
    draw = eval_view(data).at(seed=0, epoch=0)
    assert not draw.flips(0, 400).any()
    assert draw.jitters(0, 400) is None
    fixed = boxes.whole(*SIZES_B) if kind == "whole" else boxes.center(*SIZES_B, (32, 32), 36)
    np.testing.assert_array_equal(draw.boxes(0, *SIZES_B), fixed)
