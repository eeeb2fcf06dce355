"""The contenders of bench_loaders.py: each in its own process, one epoch at each request.

    python tools/_loaders.py NAME WORK      reads "epoch" lines, answers with JSON lines

`WORK` holds what `_layout.py` laid out. All contenders use the same number of threads or workers,
and make uint8 batches by RandomResizedCrop(224) and a random flip (TurboLoader float32: it has no
other).
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _peers
import _peers_more
import numpy as np

OUT = 224
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Setup:
    """What was laid out for one scenario: `draws` samples an epoch out of N."""

    def __init__(self, work: Path) -> None:
        made = json.loads((work / "setup.json").read_text())
        self.work = work
        self.device: str = made["device"]
        self.threads: int = made["threads"]
        self.batch: int = made["batch"]
        self.steps: int = made["steps"]
        self.balanced: bool = made["balanced"]
        self.counts_C = np.array(made["counts"], np.int64)
        self.labels_N = np.repeat(np.arange(len(self.counts_C)), self.counts_C)
        self.raw_N = np.array(made["raw"], np.uint8)[self.labels_N]
        self.files = [Path(name) for name in made["files"]]
        # Sample i shows image i modulo the number of files.
        self.image_N = np.arange(len(self.labels_N)) % len(self.files)

    def job(self) -> _peers.Job:
        """What fasttail's peers are to load."""
        weights_N = (1 / self.counts_C)[self.labels_N] if self.balanced else None
        return _peers.Job(
            files=self.files,
            image_N=self.image_N,
            labels_N=self.labels_N,
            px=OUT,
            batch=self.batch,
            steps=self.steps,
            threads=self.threads,
            device=self.device,
            weights_N=weights_N,
            work=self.work,
        )


class Kept:
    """The samples that are kept decoded, as `fasttail.engines.source.Decoded` has them."""

    def __init__(self, setup: Setup) -> None:
        table = np.load(setup.work / "planes.npy")  # [files, (offset, size, crc)]
        size_N = table[setup.image_N, 1]
        self.ids_K = np.flatnonzero((setup.raw_N == 1) & (size_N > 0))
        picked = table[setup.image_N[self.ids_K]]
        self.offsets_K, self.sizes_K = picked[:, 0], picked[:, 1]
        self.crc32_K = picked[:, 2].astype(np.uint32)
        self.planes = np.memmap(setup.work / "planes.bin", np.uint8, "r").view(np.ndarray)


class Repeated:
    """The shards' samples, each as often as the scenario has it: a split of any length."""

    def __init__(self, setup: Setup) -> None:
        from fasttail import shards

        split: Any = shards.open(setup.work / "shards").split("train")
        files_N = setup.image_N
        self.offsets_N, self.sizes_N = split.offsets_N[files_N], split.sizes_N[files_N]
        self.heights_N, self.widths_N = split.heights_N[files_N], split.widths_N[files_N]
        self.modes_N, self.parts_N = split.modes_N[files_N], split.parts_N[files_N]
        self.crc32_N = split.crc32_N[files_N]
        self.labels_N = setup.labels_N
        self.indptr_C1 = np.concatenate([[0], np.cumsum(setup.counts_C)])
        self.samples_N = np.arange(len(files_N))
        self.class_names = tuple(map(str, range(len(setup.counts_C))))
        self.part_paths, self.part_bytes = split.part_paths, split.part_bytes
        self.part_size = split.part_size
        self.seek = _repeated(split.seek, files_N)
        self.cache = Kept(setup) if setup.raw_N.any() else None

    def __len__(self) -> int:
        return len(self.labels_N)

    def bytes(self, i: int) -> np.ndarray:
        start = self.offsets_N[i]
        return self.part_bytes(int(self.parts_N[i]))[start : start + self.sizes_N[i]]

    def where(self, i: int) -> str:
        return f"sample {i}"


def _repeated(
    seek: tuple[np.ndarray, np.ndarray] | None, files_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """The seek index of the samples, from that of the files."""
    if seek is None:
        return None
    words, starts = seek
    own = [words[starts[k] : starts[k + 1]] for k in range(len(starts) - 1)]
    lengths_N = np.diff(starts)[files_N]
    return np.concatenate([own[k] for k in files_N]), np.concatenate([[0], np.cumsum(lengths_N)])


class FirstSteps:
    """A plan's first steps."""

    def __init__(self, plan: Any, steps: int) -> None:
        self.steps, self.out_hw, self.max_batch = steps, plan.out_hw, plan.max_batch
        self.batch = plan.batch


def plan_of(setup: Setup, split: Repeated, epoch: int) -> FirstSteps:
    from fasttail.plan import TrainEpoch, View
    from fasttail.plan.samplers import SAMPLERS

    view = View.random_resized_crop(OUT, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), flip_p=0.5)
    sampler = SAMPLERS["class" if setup.balanced else "instance"]
    p_C = sampler(setup.counts_C, 0.0)
    plan = TrainEpoch(split, p_C=p_C, view=view, seed=1, epoch=epoch, batch_size=setup.batch)
    return FirstSteps(plan, setup.steps)


def fasttail_engine(name: str) -> Callable[[Setup], _peers.Epoch]:
    def start(setup: Setup) -> _peers.Epoch:
        import torch

        from fasttail import engines

        split = Repeated(setup)
        device = torch.device(setup.device)
        engine = engines.make(name, split, device=device, threads=setup.threads)
        return lambda epoch: engine.run(plan_of(setup, split, epoch))

    return start


def limit(setup: Setup) -> _peers.Epoch:
    """libjpeg-turbo's region decode alone: what any loader that asks it for a crop must spend.

    Each region goes as it is into memory of its own size.
    """
    from fasttail import kernels

    split = Repeated(setup)
    pool = kernels.Pool(setup.threads)
    starts_P = [split.part_bytes(p).ctypes.data for p in range(len(split.part_paths))]
    memory = np.empty(4096 * 4096 * 3, np.uint8)

    def epoch(number: int) -> Iterator[Any]:
        plan = plan_of(setup, split, number)
        for step in range(plan.steps):
            batch = plan.batch(step)
            tickets, at = [], 0
            for i, box in zip(batch.ids_B, batch.boxes_B4, strict=True):
                size = int(box[2] * box[3] * 3)
                # Over and over the same few images' memory, as much as stays in the cache.
                at = 0 if at + size > 8_000_000 else at
                out = memory[at : at + size].reshape(1, box[2], box[3], 3)
                at += size
                item = np.zeros(1, kernels.ITEM)
                item["src"] = starts_P[split.parts_N[i]] + int(split.offsets_N[i])
                item["size"], item["mode"] = split.sizes_N[i], kernels.LIBJPEG
                item["height"], item["width"] = split.heights_N[i], split.widths_N[i]
                item["box"] = box
                tickets.append(pool.submit(item, out))
            for ticket in tickets:
                assert ticket.wait() is None
            yield batch.ids_B

    return epoch


def peer(make: Callable[[_peers.Job], _peers.Epoch]) -> Callable[[Setup], _peers.Epoch]:
    return lambda setup: make(setup.job())


def stock_ffcv(beton: str) -> Callable[[Setup], _peers.Epoch]:
    def start(setup: Setup) -> _peers.Epoch:
        # The same order as fasttail's, so that both read the same images.
        plan = plan_of(setup, Repeated(setup), 0)
        ids = np.concatenate([plan.batch(step).ids_B for step in range(plan.steps)])
        return _peers.stock_ffcv(setup.job(), setup.work / beton, ids)

    return start


CONTENDERS: dict[str, Callable[[Setup], _peers.Epoch]] = {
    "fasttail ffcv": fasttail_engine("ffcv"),
    "fasttail dali": fasttail_engine("dali"),
    "fasttail reference": fasttail_engine("reference"),
    "libjpeg-turbo's region decode alone": limit,
    "PIL + torchvision + DataLoader": peer(_peers.pil),
    "torchvision decode + v2 + DataLoader": peer(_peers.torchvision),
    "stock FFCV, same bytes": stock_ffcv("stock.beton"),
    "stock FFCV, own writer q90": stock_ffcv("q90.beton"),
    "plain DALI, readers.file": peer(_peers.plain_dali),
    "SPDL": peer(_peers_more.spdl),
    "TurboLoader": peer(_peers_more.turboloader),
    "LitData": peer(_peers_more.litdata),
}


def spent() -> tuple[float, float]:
    """CPU seconds and peak memory in MiB of this process and those under it."""
    parents, seconds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            about = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(about[1])
        seconds[int(folder.name)] = (int(about[11]) + int(about[12])) / TICKS_PER_S
    family = {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= new
    peak = 0.0
    for pid in family:
        status = Path(f"/proc/{pid}/status").read_text()
        peak += int(status.split("VmHWM:")[1].split()[0]) / 1024
    return sum(seconds[pid] for pid in family), peak


def main() -> None:
    name, work = sys.argv[1], Path(sys.argv[2])
    setup = Setup(work)
    epoch = CONTENDERS[name](setup)
    for number, line in enumerate(sys.stdin):
        if line.strip() != "epoch":
            break
        cpu_before, _ = spent()
        start, first = time.perf_counter(), None
        batches = 0
        for _ in epoch(number):
            batches += 1
            first = first or time.perf_counter() - start
        if setup.device == "cuda":  # what was only launched counts when it is done
            import torch

            torch.cuda.synchronize()
        wall = time.perf_counter() - start
        assert batches == setup.steps, (batches, setup.steps)
        cpu, peak = spent()
        answer = {"wall_s": wall, "cpu_s": cpu - cpu_before, "peak_mib": peak, "first_s": first}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
