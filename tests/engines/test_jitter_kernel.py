"""The Triton kernels of jitter against their twin in torch, by Triton's interpreter: on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fasttail.engines import augment as twin
from fasttail.engines.base import Jitter

from .conftest import photo, random_jitter

pytest.importorskip("triton")
MEAN, STD = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# In a process of its own: Triton looks at TRITON_INTERPRET when it is first imported.
RUN = """
import sys
import torch
from fasttail.engines import jitter_kernel
from fasttail.engines.base import Jitter

jitter_kernel.BLOCK = 256  # an image does not fill its last one
given = torch.load(sys.argv[1])
drawn = Jitter(given["factors"].numpy(), given["order"].numpy())
found = [
    jitter_kernel.jittered(given["images"], drawn, given["scale"], given["shift"], dtype)
    for dtype in given["dtypes"]
]
torch.save(found, sys.argv[2])
"""


def images() -> torch.Tensor:
    pixels_BHWC = np.stack([photo(20, 23, seed=i) for i in range(24)])
    pixels_BHWC[0] = 77  # grey, whose hue is nothing
    pixels_BHWC[1] = np.array([0, 255, 0])
    return torch.from_numpy(pixels_BHWC)


def by_torch(drawn: Jitter) -> torch.Tensor:
    jittered_BCHW = twin.jitter(images().permute(0, 3, 1, 2).float() / 255, drawn)
    return (jittered_BCHW - MEAN[:, None, None]) / STD[:, None, None]


@pytest.mark.parametrize("hue", [0.0, 0.4])
def test_two_passes_give_the_pixels_of_one_operation_after_the_other(
    tmp_path: Path, hue: float
) -> None:
    drawn = random_jitter(24, hue=hue, seed=5)
    assert len(np.unique(drawn.order_B4, axis=0)) > 10, "orders of all kinds"
    given = {
        "images": images(),
        "factors": torch.from_numpy(drawn.factors_B4),
        "order": torch.from_numpy(drawn.order_B4),
        "scale": 1 / STD,
        "shift": -MEAN / STD,
        "dtypes": DTYPES,
    }
    torch.save(given, tmp_path / "given.pt")
    subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "given.pt"), str(tmp_path / "found.pt")],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=True,
        timeout=120,
    )
    exact, *halves = torch.load(tmp_path / "found.pt")
    expected = by_torch(drawn)
    assert exact.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(exact, expected, rtol=0, atol=5e-5)
    for dtype, half in zip(DTYPES[1:], halves, strict=True):
        torch.testing.assert_close(half, expected.to(dtype), rtol=2**-7, atol=2**-7)
    assert (expected - by_torch(random_jitter(24, hue=hue, seed=6))).abs().max() > 0.5
