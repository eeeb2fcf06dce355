"""Reads a .beton with FFCV's own Loader, in a process of its own.

Importing ffcv changes numba's and torch's threads for the whole process, and what its Loader leaves
to the garbage collector raises there now and then.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np


def read(path: Path, decoder: str, os_cache: bool, scratch: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W, 3] and labels [N], in stored order. `decoder` is "simple", or the size
    of a centre crop in pixels."""
    out = scratch / "ffcv.npz"
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            __file__,
            str(path),
            decoder,
            str(int(os_cache)),
            str(out),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(out) as found:
        return found["images"], found["labels"]


def _main(path: str, decoder: str, os_cache: str, out: str) -> None:
    from ffcv.fields.decoders import (
        CenterCropRGBImageDecoder,
        IntDecoder,
        SimpleRGBImageDecoder,
    )
    from ffcv.loader import Loader, OrderOption

    if decoder == "simple":
        image = SimpleRGBImageDecoder()
    else:
        image = CenterCropRGBImageDecoder((int(decoder), int(decoder)), 1)
    loader = Loader(
        path,
        batch_size=4,
        num_workers=1,
        order=OrderOption.SEQUENTIAL,
        os_cache=bool(int(os_cache)),
        drop_last=False,
        pipelines={"image": [image], "label": [IntDecoder()]},
    )
    batches = [(images.copy(), labels.copy()) for images, labels in loader]
    images, labels = (np.concatenate(column) for column in zip(*batches, strict=True))
    np.savez(out, images=images, labels=labels.ravel())


if __name__ == "__main__":
    _main(*sys.argv[1:])
