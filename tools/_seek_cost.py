"""What the seek index costs `convert`, and what it gives the engine `ffcv`, by its spacing.

    python tools/_seek_cost.py WORK SPACING JOBS       one conversion, in a process of its own

For bench_convert.py, whose files lie in WORK/images. `convert_slowdown` compares CPU seconds,
workers and all: nothing that is done for the index waits.
"""

import dataclasses
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

SPACINGS = (0, 384, 576, 1024)  # bytes; 0: no index
BATCH, PX = 128, 224


def measure(work: Path, jobs: int, rounds: int) -> dict:
    """Each spacing in turn, `rounds` times: the ratios, and the figures of each."""
    found: dict[int, list[dict[str, float]]] = {spacing: [] for spacing in SPACINGS}
    for _ in range(rounds):
        for spacing, figures in found.items():
            command = [sys.executable, __file__, str(work), str(spacing), str(jobs)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            figures.append(json.loads(done.stdout.splitlines()[-1]))
    default = found[_default()]
    slowdowns = [
        a["convert_cpu_s"] / b["convert_cpu_s"] for a, b in zip(default, found[0], strict=True)
    ]
    return {
        "ratios": {
            "seek_bytes_share": default[0]["share"],
            "convert_slowdown": median(slowdowns),
        },
        "convert_slowdown_spread": _spread(slowdowns),
        "spacings": {
            spacing: {name: median(one[name] for one in figures) for name in figures[0]}
            | {"ffcv_spread": _spread([one["ffcv_cpu_s_per_1000"] for one in figures])}
            for spacing, figures in found.items()
        },
        "rounds": found,
    }


def show(result: dict) -> None:
    print(f"{'seek spacing':>12}{'convert, CPU s':>16}{'of the JPEGs':>14}{'ffcv, CPU s/1000':>19}")
    for spacing, one in result["spacings"].items():
        print(
            f"{spacing or 'none':>12}{one['convert_cpu_s']:16.2f}{one['share']:14.2%}"
            f"{one['ffcv_cpu_s_per_1000']:11.3f} ± {one['ffcv_spread']:.3f}"
        )
    print(
        f"convert_slowdown: half of the interquartile range {result['convert_slowdown_spread']:.3f}"
    )


def _default() -> int:
    from fasttail.config import ConvertConfig

    return ConvertConfig().seek_spacing


def _spread(values: list[float]) -> float:
    """Half of the interquartile range."""
    low, _, high = quantiles(values, n=4) if len(values) > 1 else values * 3
    return (high - low) / 2


def _cpu_s() -> float:
    """Of this process and of those that it started and that have ended."""
    usage = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def _convert(work: Path, spacing: int, jobs: int) -> Path:
    from fasttail import datasets
    from fasttail.config import ConvertConfig
    from fasttail.shards.convert import convert

    cfg = ConvertConfig(jobs=jobs, val_fraction=0, seek_spacing=spacing)
    index = datasets.index("folder", work / "images", cfg)
    third = (0.5, 0.5, 0.5)
    convert(dataclasses.replace(index, mean=third, std=third), work / "seek", cfg)
    return work / "seek"


def _figures(work: Path, spacing: int, jobs: int) -> dict[str, float]:
    from fasttail import shards
    from fasttail.loader import Loader

    begun, start = _cpu_s(), time.monotonic()
    folder = _convert(work, spacing, jobs)
    convert_s, convert_cpu_s = time.monotonic() - start, _cpu_s() - begun
    train = shards.open(folder).split("train")
    index_bytes = train.seek[0].nbytes if train.seek is not None else 0
    share = index_bytes / int(train.sizes_N.sum())
    options = {"batch_size": BATCH, "px": PX, "sampler": "instance", "augment": False}
    with Loader(folder, engine="ffcv", threads=jobs, device="cpu", **options) as loader:
        for _ in loader:  # pages, tables, threads
            pass
        start, images = time.process_time(), 0
        for batch in loader:
            images += len(batch[0])
        cpu_s = time.process_time() - start
    shutil.rmtree(folder)
    return {
        "convert_s": convert_s,
        "convert_cpu_s": convert_cpu_s,
        "share": share,
        "ffcv_cpu_s_per_1000": cpu_s / images * 1000,
    }


if __name__ == "__main__":
    print(json.dumps(_figures(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
