"""What the library costs beside what it is put in the place of, in one run.

    python tools/bench_library.py --images DIR --json library.json

Without `--images` photographs are made up. `ratios` in the JSON, with rounds and conditions:

    sampler_vs_torch   how many times faster BalancedBatchSampler goes through 10^7 labels
                       (one epoch) than torch's WeightedRandomSampler; both made before
    loader_vs_engine   images a second of Loader to uint8, of those of the engine alone
    lines_loader       lines marked `# fasttail` in examples/ddp_loader.py, whole statements counted
    lines_sampler      the same of examples/sampler_only.py
    import_s           `import fasttail` in a new process
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median

import numpy as np
import torch
from _photos import make_photos
from _product import conditions, median_ratio, shards_of_files
from torch.utils.data import WeightedRandomSampler

from fasttail import BalancedBatchSampler, Loader, engines, open_shards
from fasttail.config import DEFAULTS
from fasttail.plan import TrainEpoch, View, samplers

EXAMPLES = Path(__file__).parents[1] / "examples"
MARK = "# fasttail"
BATCH, CLASSES, PHOTOS = 128, 1000, 100
TARGETS = {
    "sampler_vs_torch": (">=", 5),
    "loader_vs_engine": (">=", 0.97),
    "lines_loader": ("<=", 6),
    "lines_sampler": ("<=", 3),
    "import_s": ("<=", 0.1),
}

Rounds = dict[str, list[float]]


def in_turn(calls: dict[str, Callable[[int], object]], rounds: int) -> Rounds:
    """Seconds of each call, one after the other in each round; the first round doesn't count."""
    seconds: Rounds = defaultdict(list)
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call(number)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return dict(seconds)


def exhaust(iterable: object) -> None:
    for _ in iterable:  # type: ignore[attr-defined]
        pass


def bench_sampler(labels: int, rounds: int) -> Rounds:
    """Seconds of a class-balanced epoch over a long tail of so many labels."""
    counts_C = np.maximum(1, labels * np.geomspace(1, 0.01, CLASSES) / CLASSES / 0.215).astype(int)
    counts_C[0] += max(0, labels - counts_C.sum())
    labels_N = np.repeat(np.arange(CLASSES), counts_C)[:labels]
    labels_N = np.unique(labels_N, return_inverse=True)[1]
    np.random.default_rng(0).shuffle(labels_N)
    weights_N = 1 / np.bincount(labels_N)[labels_N]
    ours = BalancedBatchSampler(labels_N, "class", batch_size=BATCH)
    torchs = WeightedRandomSampler(torch.from_numpy(weights_N), labels)  # pyright: ignore[reportArgumentType]
    return in_turn(
        {"fasttail": lambda _: exhaust(ours), "torch": lambda _: exhaust(torchs)}, rounds
    )


def bench_loader(shards_dir: Path, px: int, threads: int, rounds: int) -> Rounds:
    """Seconds of the same epochs, by the loader and by the engine alone."""
    opened = open_shards(shards_dir)
    split, data = opened.split("train"), DEFAULTS.data
    view = View.random_resized_crop(px, data.scale, data.ratio, data.flip_p)
    p_C = samplers.schedule("class", split.counts_C, 90)
    batch_size = min(BATCH, len(split))
    loader = Loader(
        opened, "train", sampler="class", batch_size=batch_size, view=view, augment=False,
        engine="ffcv", threads=threads, device="cpu",
    )  # fmt: skip
    engine = engines.make("ffcv", split, device=torch.device("cpu"), threads=threads)

    def by_loader(epoch: int) -> None:
        loader.set_epoch(epoch)
        exhaust(loader)

    def by_engine(epoch: int) -> None:
        plan = TrainEpoch(split, p_C=p_C, view=view, seed=0, epoch=epoch, batch_size=batch_size)
        with closing(engine.run(plan)) as batches:
            exhaust(batches)

    with loader, closing(engine):
        return in_turn({"loader": by_loader, "engine": by_engine}, rounds)


def marked_lines(example: Path) -> int:
    """Lines of the statements that are marked."""
    text = example.read_text(encoding="utf-8")
    marked = {i for i, line in enumerate(text.splitlines(), 1) if line.endswith(f"  {MARK}")}
    return sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.stmt) and node.lineno in marked
    )


IMPORT = "import time; s = time.perf_counter(); import fasttail; print(time.perf_counter() - s)"


def import_s() -> float:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=Path, help="a folder of JPEG files, searched recursively")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=10_000_000, help="of the sampler's epoch")
    parser.add_argument("--draws", type=int, default=1280, help="images of the loader's epoch")
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    said = conditions()  # the load before anything is measured
    with tempfile.TemporaryDirectory(prefix="bench-library-") as folder:
        images = args.images or Path(folder, "photos")
        if args.images is None:
            make_photos(images, min(PHOTOS, args.draws))
        shards_dir = shards_of_files(
            images, args.draws, min(10, args.draws), Path(folder, "shards")
        )
        loading_s = bench_loader(shards_dir, args.px, args.threads, args.rounds)
    order_s = bench_sampler(args.labels, args.rounds)
    imports_s = [import_s() for _ in range(args.rounds)]
    ratios = {
        "sampler_vs_torch": median_ratio(order_s["torch"], order_s["fasttail"]),
        "loader_vs_engine": median_ratio(loading_s["engine"], loading_s["loader"]),
        "lines_loader": marked_lines(EXAMPLES / "ddp_loader.py"),
        "lines_sampler": marked_lines(EXAMPLES / "sampler_only.py"),
        "import_s": median(imports_s),
    }
    runs = {"sampler_s": order_s, "loader_s": loading_s, "import_s": imports_s}
    for name, ratio in ratios.items():
        sign, target = TARGETS[name]
        print(f"{name:18} {ratio:8.3f}   target {sign} {target}")
    for name, seconds in (*order_s.items(), *loading_s.items(), ("import", imports_s)):
        print(f"{name:18} {median(seconds):8.3f} s  {min(seconds):.3f} .. {max(seconds):.3f}")
    if args.json:
        report = {"ratios": ratios, "runs": runs, "conditions": said}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
