"""What an epoch reads from disk when the set is larger than memory.

    sudo python tools/bench_reads.py --counts inaturalist18_train_counts.json --gib 3 --share 7

An epoch of class-balanced draws over a file of noise of `--gib`, in a memory control group that has
room for a `--share`-th of it (cgroup v1 or v2; making one needs root). Images are of 105 KiB on
average, with a log-normal spread, stored shuffled; every n-th class of `--counts`, so that the set
has that size. Each image's bytes are read by threads, as the first epoch does for its checksums:
mapped and nothing more, or by the engine `ffcv`'s parts, which tell the system what comes.

Reported: bytes read from the disk (/proc/self/io) against the set's, and images/s. A run ends after
`--seconds`. The page cache is empty at first; compiled code and the interpreter take part of the
group's memory.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fasttail.engines.loop import AHEAD
from fasttail.engines.parts import Parts
from fasttail.engines.table import Table
from fasttail.plan.orders import Epoch, QuotaOrder
from fasttail.plan.samplers import class_balanced

BATCH = 512
IMAGE_BYTES = 105 << 10
OWN_BYTES = 80 << 20  # what the process takes beside the files' pages, about
GROUPS = Path("/sys/fs/cgroup")


class Noise:
    """A source of one part, whose images are noise."""

    def __init__(self, path: Path, counts_C: np.ndarray) -> None:
        generator = np.random.default_rng(0)
        self.labels_N = np.repeat(np.arange(len(counts_C)), counts_C)
        generator.shuffle(self.labels_N)
        n = len(self.labels_N)
        spread_N = generator.lognormal(0.0, 0.5, n)
        self.sizes_N = (spread_N / spread_N.mean() * IMAGE_BYTES).astype(np.int64)
        ends_N = np.cumsum(self.sizes_N)
        self.offsets_N, self.bytes_in_all = ends_N - self.sizes_N, int(ends_N[-1])
        self.modes_N = self.parts_N = self.heights_N = self.widths_N = self.crc32_N = np.zeros(
            n, np.int32
        )
        self.part_paths = (path,)

    def part_size(self, part: int) -> int:
        return self.bytes_in_all

    def part_bytes(self, part: int) -> np.ndarray:
        return np.memmap(self.part_paths[part], np.uint8, "r").view(np.ndarray)


def within(memory_bytes: int) -> None:
    """Puts this process into a control group of so much memory."""
    v2 = (GROUPS / "cgroup.controllers").exists()
    group = (GROUPS if v2 else GROUPS / "memory") / "fasttail-bench-reads"
    group.mkdir(exist_ok=True)
    limit = "memory.max" if v2 else "memory.limit_in_bytes"
    (group / limit).write_text(str(memory_bytes))
    (group / "cgroup.procs").write_text(str(os.getpid()))


def read_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def epoch(path: Path, counts_C: np.ndarray, how: str, args: argparse.Namespace) -> None:
    """Run in a process of its own: prints what was read as JSON."""
    split: Any = Noise(path, counts_C)
    table: Any = SimpleNamespace(
        indptr_C1=np.concatenate([[0], np.cumsum(counts_C)]),
        samples_N=np.argsort(split.labels_N, kind="stable"),
    )
    steps = len(split.labels_N) // BATCH
    order = QuotaOrder(table, class_balanced(counts_C, 0.0), Epoch(0, 0, steps, BATCH))
    ids_B = order.draw(0, steps * BATCH)[0]
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    within(split.bytes_in_all // args.share + OWN_BYTES)
    parts, rows_of, content = Parts(split), Table(split).rows, split.part_bytes(0)

    def read(address: int, size: int, i: int) -> None:
        if how == "mapped":
            zlib.crc32(content[split.offsets_N[i] : split.offsets_N[i] + size].data)
        else:
            zlib.crc32((ctypes.c_char * size).from_address(address))

    def begin(step: int) -> list[tuple[int, int, int]]:
        batch_B = ids_B[step * BATCH : (step + 1) * BATCH]
        rows = rows_of(batch_B)
        starts_B = rows.offsets_B if how == "mapped" else parts.addresses(rows)
        return list(zip(starts_B.tolist(), rows.sizes_B.tolist(), batch_B.tolist(), strict=True))

    before, start, step = read_bytes(), time.perf_counter(), 0
    with ThreadPoolExecutor(args.threads) as pool:
        ahead = [begin(k) for k in range(min(AHEAD, steps))]
        while ahead and time.perf_counter() - start < args.seconds:
            list(pool.map(lambda item: read(*item), ahead.pop(0)))
            step += 1
            if step + AHEAD <= steps:
                ahead.append(begin(step + AHEAD - 1))
    seconds = time.perf_counter() - start
    found = {"how": how, "of_the_epoch": step / steps, "images_per_s": step * BATCH / seconds}
    read_of_set = (read_bytes() - before) / split.bytes_in_all
    print(json.dumps({**found, "read_of_set": read_of_set, "threads": args.threads}))


def main() -> None:
    parser = argparse.ArgumentParser(description="What an epoch reads of a set beyond memory.")
    parser.add_argument("--counts", type=Path, required=True)
    parser.add_argument("--gib", type=float, default=3, help="size of the set")
    parser.add_argument("--share", type=int, default=7, help="the set against the memory")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=90, help="a run takes no longer")
    parser.add_argument("--folder", type=Path, help="where the file is made")
    parser.add_argument("--how", choices=["mapped", "parts"], help=argparse.SUPPRESS)
    args = parser.parse_args()

    counts_C = np.sort(json.loads(args.counts.read_text()))[::-1]
    wanted = int(args.gib * 2**30 / IMAGE_BYTES)
    counts_C = counts_C[:: max(1, int(counts_C.sum()) // wanted)]
    if args.how:
        epoch(args.folder / "noise", counts_C, args.how, args)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        split = Noise(Path(name, "noise"), counts_C)
        block = np.random.default_rng(0).bytes(1 << 24)
        with split.part_paths[0].open("wb") as file:
            for start in range(0, split.bytes_in_all, len(block)):
                file.write(block[: split.bytes_in_all - start])
            file.flush()
            os.fsync(file.fileno())
        print(
            f"{len(split.labels_N):,} images of {len(counts_C):,} classes, "
            f"{split.bytes_in_all / 2**30:.2f} GiB; memory for 1/{args.share} of it"
        )
        for how in ("parts", "mapped"):
            command = [sys.executable, __file__, *sys.argv[1:], "--how", how, "--folder", name]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
