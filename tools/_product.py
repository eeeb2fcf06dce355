"""What the training tools share: shards in a scratch folder, and short trainings by the product's
own loop (`fasttail.train.rep`), whose log.jsonl is what they read.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fasttail import shards
from fasttail.compute import pick
from fasttail.config import ConvertConfig
from fasttail.console import Reporter
from fasttail.datasets.base import ArrayImages, FileImages, Images, Index, SplitIndex
from fasttail.engines.kept import Kept
from fasttail.rundir import Run
from fasttail.shards.convert import convert
from fasttail.stages.begin import new_run
from fasttail.stages.options import TrainOptions
from fasttail.train import rep
from fasttail.world import World

PACKAGES = (
    *("torch", "torchvision", "numba", "numpy", "pillow", "ffcv"),
    *("nvidia-dali-cuda120", "nvidia-dali-cuda130"),
)
# What decides how torch's threads wait for each other.
THREADING = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
JPEG_SUFFIXES = (".jpg", ".jpeg")


def jpegs(folder: Path) -> list[Path]:
    """The JPEG files under a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in JPEG_SUFFIXES)


def shards_of_files(
    folder: Path, images: int, classes: int, out: Path, max_side: int | None = None
) -> Path:
    """Shards of so many samples: the JPEG files under `folder` again and again, equal classes;
    `max_side` as of `fasttail convert`."""
    paths = [str(path.relative_to(folder)) for path in jpegs(folder)]
    if not paths:
        sys.exit(f"{folder}: no JPEG files under it")
    repeated = [paths[i % len(paths)] for i in range(images)]
    return _convert(FileImages(folder, repeated), images, classes, out, max_side)


def shards_of_noise(images: int, px: int, classes: int, out: Path) -> Path:
    """Shards of random images, px x px."""
    generator = np.random.default_rng(0)
    pixels_NHWC = generator.integers(0, 256, (images, px, px, 3), dtype=np.uint8)
    return _convert(ArrayImages(pixels_NHWC, "noise"), images, classes, out)


def _convert(
    images: Images, count: int, classes: int, out: Path, max_side: int | None = None
) -> Path:
    split = SplitIndex(images, np.arange(count) % classes)
    names = tuple(map(str, range(classes)))
    index = Index("bench", names, {"train": split}, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    convert(index, out, ConvertConfig(jobs=len(os.sched_getaffinity(0)), max_side=max_side))
    return out


def begin(shards_dir: Path, config: str | None, settings: Sequence[str], folder: Path) -> Run:
    """A new run in `folder`; what was there goes."""
    shutil.rmtree(folder, ignore_errors=True)
    options = TrainOptions(
        stage="rep",
        shards=shards_dir,
        config=config,
        run=folder,
        settings=("compute.tensorboard=false", "compute.report=false", *settings),
    )
    return new_run(options, World(), Reporter(quiet=True))


def train(run: Run) -> list[dict[str, Any]]:
    """Trains stage 1 of a run; the lines of its log that are of kind "train"."""
    compute = pick(run.config.compute, World())
    with Kept(run.config.data, compute.device) as engines:
        rep.train(
            run,
            shards.open(run.shards_dir),
            world=World(),
            compute=compute,
            reporter=Reporter(quiet=True),
            resume=False,
            engines=engines,
        )
    lines = [json.loads(line) for line in run.log_path.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]


@dataclass(frozen=True)
class Speed:
    """How fast a training went, its first lines of the log left out."""

    images_per_s: float
    waiting_share: float

    @staticmethod
    def of(lines: Sequence[dict[str, Any]], warm_up: int = 1) -> "Speed":
        """Each line stands for as many images as any other: seconds add up, rates do not."""
        warm = lines[warm_up:]
        seconds = [1 / line["images_per_s"] for line in warm]
        waiting = [s * line["waiting_share"] for s, line in zip(seconds, warm, strict=True)]
        return Speed(len(warm) / sum(seconds), sum(waiting) / sum(seconds))


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over the rounds of above / below: each pair ran one after the other."""
    return median(a / b for a, b in zip(above, below, strict=True))


def conditions() -> dict[str, Any]:
    """What a figure travels with."""
    return {
        "command": " ".join(sys.argv),
        "machine": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores, {platform.platform()}",
        "gpu": _gpu(),
        "versions": versions(),
        "environment": {name: os.environ[name] for name in THREADING if name in os.environ},
        "load_before": os.getloadavg()[0],
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter and are there."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
