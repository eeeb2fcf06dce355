"""Which decoder of nvImageCodec takes a JPEG on this GPU, and whether it can decode regions.

DALI does not tell. Its decoders are nvImageCodec's, in this order: the GPU's own JPEG engines, CUDA
kernels, the CPU. So each kind of JPEG is given to each of them alone; the first that takes it is
the one that decodes such images.
"""

# nvidia.nvimgcodec has no stubs for what its compiled part defines.
# pyright: reportAttributeAccessIssue=false

import os
import re
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO

import numpy as np
import torch
from PIL import Image

# Kind of JPEG -> how Pillow makes it.
KINDS: dict[str, dict[str, object]] = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "grey": {},
    "progressive": {"subsampling": 2, "progressive": True},
}


def decoded_by(device: torch.device) -> dict[str, str]:
    """Kind of JPEG -> what decodes it on `device`: its JPEG engines, CUDA or the CPU."""
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")  # that one can't is no news here
    from nvidia import nvimgcodec

    names = {
        "the GPU's JPEG engines": nvimgcodec.HW_GPU_ONLY,
        "CUDA": nvimgcodec.HYBRID_CPU_GPU,
        "CUDA alone": nvimgcodec.GPU_ONLY,
        "the CPU": nvimgcodec.CPU_ONLY,
    }
    on_cpu = nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY
    device_id = device.index or 0 if device.type == "cuda" else on_cpu
    found: dict[str, str] = {}
    for name, kind in names.items():
        try:
            decoder = nvimgcodec.Decoder(
                device_id=device_id,
                max_num_cpu_threads=1,
                backends=[nvimgcodec.Backend(kind)],
                options=":fancy_upsampling=1",  # as the pipeline asks for it
            )
        except RuntimeError:  # this GPU has none
            continue
        for jpeg, stored in samples().items():
            if jpeg not in found and decoder.decode(stored) is not None:
                found[jpeg] = name
    return found


def samples() -> dict[str, bytes]:
    """A JPEG of each kind."""
    y, x = np.mgrid[0:192, 0:256]
    pixels_HWC = np.stack([y, x, 255 - (x + y) // 2], axis=2).astype(np.uint8)
    made = {}
    for kind, options in KINDS.items():
        image = Image.fromarray(pixels_HWC).convert("L" if kind == "grey" else "RGB")
        file = BytesIO()
        image.save(file, "JPEG", quality=90, **options)
        made[kind] = file.getvalue()
    return made


def why_not_regions(installed: str | None = None) -> str | None:
    """Why regions are not to be decoded on a GPU here; None if they can be.

    nvImageCodec 0.9 refuses them for 4:2:0 and 4:2:2 where nvJPEG is below 13.2, so that the CPU
    decodes most photographs; where it does not, it ends with SIGSEGV on some GPUs (its issue 55).
    """
    found = installed or _nvimgcodec()
    if found is None:
        return "nvImageCodec is not installed"
    major, minor = map(int, re.findall(r"\d+", found)[:2])
    if (major, minor) >= (0, 9):
        return f"nvImageCodec {found} does not decode regions reliably, 0.8 (DALI 2.2) does"
    return None


def _nvimgcodec() -> str | None:
    for cuda in ("cu12", "cu13"):
        try:
            return version(f"nvidia-nvimgcodec-{cuda}")
        except PackageNotFoundError:
            continue
    return None
