"""Which engine `auto` means for a split on a device, and why, before anything is measured.

Where there is a choice a training measures: `trial.py`.
"""

import os

import torch

from fasttail.engines import dali, ffcv
from fasttail.engines.resident import one_size
from fasttail.engines.source import Source

SMALL_SIDE = 64  # pixels
SHARE_OF_MEMORY = 4  # a quarter


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def choose(split: Source, device: torch.device) -> tuple[str, str]:
    """The engine's name, and the reason in words."""
    image_hw = one_size(split)
    if image_hw is not None and max(image_hw) <= SMALL_SIDE:
        need, have = len(split) * image_hw[0] * image_hw[1] * 3, _memory_bytes(device)
        if need * SHARE_OF_MEMORY <= have:
            return "resident", (
                f"{len(split)} images of {image_hw[0]}x{image_hw[1]} take {need / 1e6:.0f} MB, "
                f"less than a quarter of the {have / 1e9:.0f} GB of {device}"
            )
    return decoder(device)


def decoders(device: torch.device) -> list[str]:
    """The engines among which there is a choice for images that have to be decoded: on a CPU `ffcv`
    is ahead of DALI everywhere."""
    if device.type == "cuda" and dali.available() and ffcv.available():
        return ["ffcv", "dali"]
    return [decoder(device)[0]]


def decoder(device: torch.device) -> tuple[str, str]:
    """The engine for images that have to be decoded, and the reason in words."""
    if device.type == "cuda" and dali.available():
        return "dali", f"DALI decodes on {device}"
    if ffcv.available():
        missing = (
            "DALI is not installed" if device.type == "cuda" else "there is no GPU to decode on"
        )
        return "ffcv", missing
    return "reference", "neither the decoding kernel nor DALI is here: slow"
