"""From the configuration to the boxes that a plan draws."""

from fasttail.config import DataConfig
from fasttail.plan import View


def train_view(data: DataConfig) -> View:
    """The random view of stage 1."""
    if data.train_view == "random-resized-crop":
        return View.random_resized_crop(
            out_px=data.px,
            scale=data.scale,
            ratio=data.ratio,
            flip_p=data.flip_p,
            jitter=data.jitter,
        )
    if data.train_view == "random-crop":
        return View.random_crop(
            out_px=data.px, padding=data.padding, flip_p=data.flip_p, jitter=data.jitter
        )
    return _fixed_view(data.train_view, data)


def eval_view(data: DataConfig) -> View:
    """The fixed view of evaluation and of stage 2's features."""
    return _fixed_view(data.eval_view, data)


def _fixed_view(kind: str, data: DataConfig) -> View:
    if kind == "whole":
        return View.whole(out_px=data.px)
    return View.center(out_px=data.px, resize_px=data.resize_px)
