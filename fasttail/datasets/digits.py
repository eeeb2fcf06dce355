"""Handwritten digits, long-tailed: the data set that is always there.

digits.npz beside this file has the 1,797 grey 8x8 images that scikit-learn ships too, in its order
(UCI, Alpaydin and Kaynak 1998, CC BY 4.0). They become 32x32 RGB, are split first (test and val
with the same number of images a class), and what is left is made long-tailed. At the default
imbalance of 50 train has 331 images, 120 of class 0 to 2 of class 9: many-, medium- and few-shot
classes are all there.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.datasets.longtail import hold_out_balanced, make_long_tailed

SIDE = 32
TRAIN_MAX, VAL_EACH, TEST_EACH = 120, 14, 40  # of the 174 or more images that a class has
IMBALANCE = 50


def index(source: Path | None, cfg: ConvertConfig) -> Index:
    """The digits. `source` is not used: the images come with fasttail."""
    with np.load(Path(__file__).with_name("digits.npz")) as stored:
        grey_NHW, labels_N = stored["grey_NHW"], stored["labels_N"].astype(np.int64)
    pixels = np.stack([_to_rgb(grey_HW) for grey_HW in grey_NHW])
    every = SplitIndex(ArrayImages(pixels, "digits"), labels_N)
    rest, test = hold_out_balanced(every, TEST_EACH, cfg.seed)
    rest, val = hold_out_balanced(rest, VAL_EACH, cfg.seed)
    class_names = tuple(str(c) for c in range(10))
    imbalance = IMBALANCE if cfg.imbalance is None else cfg.imbalance
    train = make_long_tailed(
        rest, n_max=TRAIN_MAX, imbalance=imbalance, class_names=class_names, seed=cfg.seed
    )
    pixels_of_train = pixels[train.images.ids_N] / 255.0  # type: ignore[attr-defined]
    mean, std = float(pixels_of_train.mean()), float(pixels_of_train.std())
    return Index(
        name="digits",
        class_names=class_names,
        splits={"train": train, "val": val, "test": test},
        mean=(mean, mean, mean),
        std=(std, std, std),
        notes=(
            f"train: {TRAIN_MAX} images of class 0, imbalance {imbalance:g}, seed {cfg.seed}",
            f"val and test: {VAL_EACH} and {TEST_EACH} images of every class, none in train",
        ),
    )


def _to_rgb(grey_HW: np.ndarray) -> np.ndarray:
    """Grey 0..16 [8, 8] -> uint8 [32, 32, 3]."""
    grey = Image.fromarray(np.round(grey_HW * (255 / 16)).astype(np.uint8))
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert("RGB"))
