"""How fast the plan is, beside torch's and numpy's samplers, in one run.

    python tools/bench_plan.py --counts inaturalist18_train_counts.json --json plan.json

`--counts` is a JSON list of training images per class; without it a long tail of 8,142 classes is
made up. All on one core. `--json` holds `ratios`, with
their spread and conditions. What is measured:

    order_ns             sample ids and labels alone, ns a draw
    order_vs_torch       how many times faster than torch's WeightedRandomSampler
    plan_ns              order, RandomResizedCrop box and flip in batches of 512, ns a draw
    first_batch_1e9_ms   making the epoch and its first batch of 512 over 10^9 samples whose table
                         is sparse files, mapped and not touched
    extra_mib_1e9        growth of the process's memory by the same, mapped pages included
    first_decoded_1e9_ms opening such shards, planning, and the first batch of 512 decoded by the
                         engine ffcv; JPEGs of 64 x 64, so that decoding is little of it; what is
                         read of the table lies in the page cache
    open_1e9_ms          of this the opening: dataset.json read, the table's files not touched
    own_mib_1e9          what such a process then holds in memory by itself, torch and compiled code
                         included, mapped files (the page cache's) not, and a bit a sample for the
                         checksums that it has compared, of which few are touched by then
    first_call_s         a new process, from before `import fasttail.plan` to its first batch, with
                         compiled code cached
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
from numba.experimental.jitclass.decorators import jitclass
from PIL import Image

DRAWS = 10_000_000
BATCH = 512
BIG = 1_000_000_000
EARLY, LATE = range(3), range(87, 90)  # epochs
TARGETS = {
    "order_ns": ("<=", 80),
    "order_vs_torch": (">=", 6),
    "plan_ns": ("<=", 250),
    "first_batch_1e9_ms": ("<=", 10),
    "extra_mib_1e9": ("<=", 50),
    "first_decoded_1e9_ms": ("<=", 1000),
    "open_1e9_ms": ("<=", 100),
    "own_mib_1e9": ("<=", 200),
    "first_call_s": ("<=", 1),
}


def made_up_counts() -> np.ndarray:
    """8,142 classes of 1,000 down to 9 images, 376,492 in all."""
    return np.maximum(2, (1000 / (1 + np.arange(8142) / 90) ** 1.03).astype(np.int64))


def split_of(counts_C: np.ndarray) -> Any:
    generator = np.random.default_rng(0)
    labels_N = np.repeat(np.arange(len(counts_C)), counts_C)
    generator.shuffle(labels_N)
    return SimpleNamespace(
        indptr_C1=np.concatenate([[0], np.cumsum(counts_C)]),
        samples_N=np.argsort(labels_N, kind="stable"),
        labels_N=labels_N,
        heights_N=generator.integers(300, 600, len(labels_N)).astype(np.int32),
        widths_N=generator.integers(300, 600, len(labels_N)).astype(np.int32),
        sizes_N=np.full(len(labels_N), 1 << 18),
        class_names=tuple(map(str, range(len(counts_C)))),
    )


def timed(call: Callable[[], object], runs: int) -> list[float]:
    """Seconds of each run, after one that doesn't count."""
    call()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def bench_small(counts_C: np.ndarray, runs: int) -> dict[str, list[float]]:
    """ns a draw of the plan and of its peers, class-balanced."""
    import torch
    from torch.utils.data import WeightedRandomSampler

    from fasttail.plan import TrainEpoch, View
    from fasttail.plan.orders import Epoch, QuotaOrder
    from fasttail.plan.samplers import class_balanced

    torch.set_num_threads(1)
    split = split_of(counts_C)
    size = len(split.labels_N)
    p_C = class_balanced(counts_C, 0.0)
    weights_N = (p_C / counts_C)[split.labels_N]
    weights = torch.from_numpy(weights_N)
    generator = np.random.default_rng(0)

    steps = DRAWS // BATCH
    order = QuotaOrder(split, p_C, Epoch(0, 0, steps, BATCH))
    view = View.random_resized_crop(224, (0.08, 1.0), (3 / 4, 4 / 3), 0.5)
    plan = TrainEpoch(split, p_C=p_C, view=view, seed=0, epoch=0, batch_size=BATCH)

    def in_batches() -> None:
        for step in range(steps):
            order.draw(step * BATCH, BATCH)

    def whole_plan() -> None:
        for step in range(plan.steps):
            plan.batch(step)

    peers = min(runs, 3)
    seconds = {
        "order": timed(lambda: order.draw(0, DRAWS), runs),
        "order in batches": timed(in_batches, runs),
        "torch WeightedRandomSampler": timed(
            lambda: list(WeightedRandomSampler(weights, DRAWS)),  # pyright: ignore[reportArgumentType]
            peers,
        ),
        "torch.multinomial": timed(lambda: torch.multinomial(weights, DRAWS, True), peers),
        "numpy Generator.choice": timed(lambda: generator.choice(size, DRAWS, p=weights_N), peers),
    }
    nanoseconds = {name: [s / DRAWS * 1e9 for s in run] for name, run in seconds.items()}
    drawn = plan.steps * BATCH
    nanoseconds["whole plan"] = [s / drawn * 1e9 for s in timed(whole_plan, runs)]
    return nanoseconds


@jitclass([])
class InOrder:
    """Stands for a table whose samples lie class by class: place i holds sample i."""

    def __init__(self) -> None:
        pass

    def __getitem__(self, place: int) -> int:
        return place


def big_shards(folder: Path, epochs: Iterable[int]) -> None:
    """Shards of 10^9 samples in 8,142 classes: sparse files, in which there is what these epochs'
    first batches need (an engine decodes `AHEAD`). All samples are one JPEG."""
    from fasttail.engines.loop import AHEAD
    from fasttail.plan.orders import Epoch, QuotaOrder, quota_draws
    from fasttail.plan.samplers import class_balanced
    from fasttail.shards.columns import COLUMNS, JPG, digest
    from fasttail.shards.format import FORMAT, META_FILE, VERSION, Meta, PartMeta, SplitMeta

    counts_C = np.full(8142, BIG // 8142)
    counts_C[0] += BIG - counts_C.sum()
    indptr_C1 = np.concatenate([[0], np.cumsum(counts_C)])
    lengths = {"indptr": 8143, "names": 0, "name_starts": BIG + 1}
    (folder / "train.index").mkdir()
    table = {
        name: np.lib.format.open_memmap(
            folder / "train.index" / f"{name}.npy", "w+", dtype, (lengths.get(name, BIG),)
        )
        for name, dtype in COLUMNS.items()
    }
    table["indptr"][:] = indptr_C1
    pixels = np.random.default_rng(0).integers(0, 64, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "train-00000.beton", "JPEG")
    jpeg = (folder / "train-00000.beton").read_bytes()

    draw: Any = numba.njit(quota_draws.py_func, error_model="numpy")
    empty: Any = SimpleNamespace(indptr_C1=indptr_C1, samples_N=np.zeros(0, np.int64))
    ids_B, labels_B = np.empty((2, AHEAD * BATCH), np.int64)
    for number in epochs:
        at = Epoch(1, number, BIG // BATCH, BATCH)
        order = QuotaOrder(empty, class_balanced(counts_C, 0.0), at)
        look = order._lookup
        draw(
            0, order._key, look.sums_C1, look.guide_G, look.shift, order._rows_C, InOrder(), ids_B,
            labels_B,
        )  # fmt: skip
        rows = {"samples": ids_B, "labels": labels_B, "heights": 64, "widths": 64}
        rows |= {"modes": JPG, "sizes": len(jpeg), "crc32": zlib.crc32(jpeg)}
        for name, values in rows.items():
            table[name][ids_B] = values
    digests = {"indptr": digest(table["indptr"]), "names": digest(table["names"])}
    part = PartMeta(file="train-00000.beton", bytes=len(jpeg), samples=BIG, digest="")
    meta = Meta(
        **{"format": FORMAT, "version": VERSION, "written_by": "bench_plan", "container": "beton"},
        **{"name": "big", "class_names": tuple(map(str, range(8142))), "digest": "", "made": {}},
        **{"mean": (0.5,) * 3, "std": (0.2,) * 3, "notes": (), "rejected": {}, "kinds": {}},
        splits={"train": SplitMeta(samples=BIG, parts=(part,), columns=digests)},
    )
    (folder / META_FILE).write_text(meta.model_dump_json())
    for column in table.values():
        column.flush()


def forget(folder: Path) -> None:
    """Takes a folder's files out of the page cache."""
    for path in (folder / "train.index").iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def big() -> None:
    """Run in a process of its own: prints milliseconds and MiB as JSON."""
    import torch

    from fasttail import engines, shards
    from fasttail.plan import TrainEpoch, View
    from fasttail.plan.samplers import class_balanced

    view = View.random_resized_crop(224, (0.08, 1.0), (3 / 4, 4 / 3), 0.5)

    def plan_of(split: Any, epoch: int) -> TrainEpoch:
        p_C = class_balanced(np.diff(split.indptr_C1), 0.0)
        return TrainEpoch(split, p_C=p_C, view=view, seed=1, epoch=epoch, batch_size=BATCH)

    plans = []  # what they hold in memory is measured

    def first_batch(split: Any, epoch: int) -> float:
        start = time.perf_counter()
        plans.append(plan_of(split, epoch))
        plans[-1].batch(0)
        return (time.perf_counter() - start) * 1e3

    opens = []

    def first_decoded(folder: Path, epoch: int) -> float:
        start = time.perf_counter()
        split = shards.open(folder).split("train")
        opens.append((time.perf_counter() - start) * 1e3)
        engine = engines.make("ffcv", split, device=torch.device("cpu"), threads=1)
        with closing(engine), closing(engine.run(plan_of(split, epoch))) as batches:
            next(batches)
            return (time.perf_counter() - start) * 1e3

    first_batch(split_of(np.array([600, 30, 5])), 0)  # compiled and loaded
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        big_shards(folder, [*EARLY, *LATE])
        split = shards.open(folder).split("train")
        forget(folder)
        before = memory_mib()
        first_batch(split, EARLY[0])
        grown = memory_mib() - before
        for epoch in EARLY[1:]:
            first_batch(split, epoch)
        early = [first_batch(split, epoch) for epoch in EARLY]
        late = [first_batch(split, epoch) for epoch in (*LATE, *LATE)][len(LATE) :]
        del split
        plans.clear()  # what is mapped stays in the page cache
        first_decoded(folder, EARLY[0])  # the engine is loaded
        cold, warm = [], []
        for epoch in EARLY:
            forget(folder)
            cold.append(first_decoded(folder, epoch))
            warm.append(first_decoded(folder, epoch))
    found = {"ms": early, "late_ms": late, "mib": grown, "cold": cold, "warm": warm}
    print(json.dumps({**found, "open": opens[1:], "own": memory_mib(mapped=False)}))


def memory_mib(mapped: bool = True) -> float:
    """What the process holds in memory now, mapped files included or not."""
    resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - (0 if mapped else shared)) * resource.getpagesize() / 2**20


def first_call() -> None:
    """Run in a process of its own: prints seconds as JSON."""
    start = time.perf_counter()
    from fasttail.plan import TrainEpoch, View
    from fasttail.plan.samplers import class_balanced

    imported = time.perf_counter()
    split = split_of(np.array([600, 30, 5]))
    view = View.random_resized_crop(224, (0.08, 1.0), (3 / 4, 4 / 3), 0.5)
    p_C = class_balanced(np.array([600, 30, 5]), 0.0)
    TrainEpoch(split, p_C=p_C, view=view, seed=1, epoch=0, batch_size=64).batch(0)
    print(json.dumps({"s": time.perf_counter() - start, "import_s": imported - start}))


def in_new_process(part: str) -> dict:
    command = [sys.executable, __file__, "--part", part]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):10.4g}   {min(values):.4g} .. {max(values):.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="How fast the plan is, beside torch's and numpy's samplers."
    )
    parser.add_argument("--counts", type=Path, help="JSON list of training images per class")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measurement")
    parser.add_argument("--part", choices=["big", "first_call"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        {"big": big, "first_call": first_call}[args.part]()
        return

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    counts_C = np.array(json.loads(args.counts.read_text())) if args.counts else made_up_counts()
    ns = bench_small(counts_C, args.runs)
    in_new_process("first_call")  # fills the cache of compiled code
    calls = [in_new_process("first_call") for _ in range(args.runs)]
    bigs = [in_new_process("big") for _ in range(3)]
    torch_ns = statistics.median(ns["torch WeightedRandomSampler"])
    values = {
        "order_ns": ns["order"],
        "order_vs_torch": [torch_ns / value for value in ns["order"]],
        "plan_ns": ns["whole plan"],
        "first_batch_1e9_ms": [ms for run in bigs for ms in run["ms"]],
        "extra_mib_1e9": [run["mib"] for run in bigs],
        "first_decoded_1e9_ms": [ms for run in bigs for ms in run["warm"]],
        "open_1e9_ms": [ms for run in bigs for ms in run["open"]],
        "own_mib_1e9": [run["own"] for run in bigs],
        "first_call_s": [run["s"] for run in calls],
    }
    others = {
        **{name: run for name, run in ns.items() if name not in ("order", "whole plan")},
        "first_decoded_1e9_ms, from disk": [ms for run in bigs for ms in run["cold"]],
        "first_batch_1e9_ms, epochs 87 to 89": [ms for run in bigs for ms in run["late_ms"]],
        "first_call_s, of which import": [run["import_s"] for run in calls],
    }
    import torch

    conditions = {
        "counts": str(args.counts.name) if args.counts else "made up",
        "classes": len(counts_C),
        "images": int(counts_C.sum()),
        "draws": DRAWS,
        "runs": args.runs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, pinned to one",
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "torch": torch.__version__,
    }
    print("  ".join(f"{name}: {value}" for name, value in conditions.items()))
    print(f"\n{'':40}{'median':>10}   {'lowest .. highest':22}target")
    for name, runs in values.items():
        sign, target = TARGETS[name]
        print(f"{name:40}{spread(runs):35}{sign} {target}")
    for name, runs in others.items():
        print(f"{name:40}{spread(runs)}")
    if args.json:
        report = {
            "ratios": {name: statistics.median(runs) for name, runs in values.items()},
            "runs": {**values, **others},
            "conditions": conditions,
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
