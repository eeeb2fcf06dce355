"""What stage 2 costs from the bank of features, and from images as the authors do it; in one run.

    python tools/bench_stage2.py --run runs/cifar10-lt-resnet32-instance --json stage2.json
    python tools/bench_stage2.py --json grid.json          # the grid alone: needs no run

`ratios` in the JSON, with runs and conditions beside them:

    bank_vs_images        how many times less wall time all heads take from the bank (extraction,
                          training and scoring) than cRT and LWS trained on images and features
                          extracted for NCM and for tau, each on its own: the same run, data, draws
                          and epochs. Nothing is taken from the run but its model
    tau_grid_vs_product   accuracies of 21 taus on 50,000 x 2048 features and 1,000 classes, in
                          single products features @ weights.T; medians of interleaved rounds

`accuracy` holds, for cRT and LWS, accuracy in % over images from the bank and from images. With
--epochs-measured K only K epochs are trained on images and the time is scaled: then there is no
accuracy from images.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from fasttail import classify, rundir, shards
from fasttail.classify import Stage
from fasttail.classify.features import Features
from fasttail.classify.grid import predict_over_grid
from fasttail.classify.tau import accuracies, tau_grid
from fasttail.compute import pick
from fasttail.config import TauConfig, TrainConfig
from fasttail.console import Reporter
from fasttail.engines.kept import Kept
from fasttail.protocol import reported
from fasttail.recipes import change
from fasttail.rundir import Run
from fasttail.train import rep
from fasttail.world import World

TRAINED = ("crt", "lws")
FROM_BANK = ("crt", "lws", "tau", "ncm", "logit-adjust", "balanced-softmax")
FROM_IMAGES = ("crt", "lws", "tau", "ncm")
TARGETS = {"bank_vs_images": (">=", 20), "tau_grid_vs_product": ("<=", 3)}
SAMPLES, DIM, CLASSES = 50_000, 2048, 1000


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def stage_for(run: Run, config: TrainConfig, folder: Path) -> Stage:
    """A stage that finds nothing done: the run's model in a directory of its own."""
    folder.mkdir(parents=True)
    (folder / run.model_path.name).symlink_to(run.model_path.resolve())
    fresh = replace(run, dir=folder, config=config)
    compute = pick(config.compute, World())
    opened = shards.open(run.shards_dir)
    model, engines = rep.load_model(fresh, compute), Kept(config.data, compute.device)
    return Stage(fresh, model, opened, World(), compute, Reporter(quiet=True), engines)


def score(heads: Sequence[classify.Head], stage: Stage) -> dict[str, float]:
    split = reported(stage.shards.split_names)
    if split is None:
        raise SystemExit("the shards have neither test nor val to score on")
    return {row["method"]: row["all_micro"] for row in classify.score_heads(heads, stage, split)}


def bench_run(run_dir: Path, views: int, epochs_measured: int | None) -> dict[str, Any]:
    """Seconds and accuracies of stage 2 of a run, both ways."""
    run = rundir.open_run(run_dir)
    config = change(run.config, {"compute.compile": False, "classify.views": views})
    full = {method: getattr(config.classify, method).epochs for method in TRAINED}
    on_images: dict[str, Any] = {"classify.features": "images"}
    if epochs_measured is not None:
        on_images |= {f"classify.{method}.epochs": epochs_measured for method in TRAINED}

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        warm = stage_for(run, config, home / "warm")
        score(list(classify.make_heads(["tau"], warm)), warm)

        stage = stage_for(run, config, home / "bank")
        extract_s, _ = seconds(lambda: [stage.bank(name) for name in stage.shards.split_names])
        heads_s, heads = seconds(lambda: list(classify.make_heads(FROM_BANK, stage)))
        score_s, bank_accuracy = seconds(lambda: score(heads, stage))
        bank_s = {"extract": extract_s, "heads": heads_s, "score": score_s}

        images_s: dict[str, float] = {}
        images_accuracy: dict[str, float] = {}
        for method in FROM_IMAGES:
            changes = on_images if method in TRAINED else {}
            stage = stage_for(run, change(config, changes | {"classify.views": 0}), home / method)
            made_s, made = seconds(lambda m=method, s=stage: list(classify.make_heads([m], s)))
            if method in TRAINED and epochs_measured is not None:
                made_s *= full[method] / epochs_measured
            score_s, accuracy = seconds(lambda m=made, s=stage: score(m, s))
            images_s[method] = made_s + score_s
            images_accuracy |= accuracy
    measured = images_accuracy if epochs_measured is None else {}
    split = shards.open(run.shards_dir).split("train")
    return {
        "ratio": sum(images_s.values()) / sum(bank_s.values()),
        "bank_s": bank_s,
        "images_s": images_s,
        "accuracy": {
            method: {"bank": bank_accuracy[method], "images": measured.get(method)}
            for method in FROM_BANK
        },
        "conditions": {
            "run": run.dir.name,
            "backbone": run.config.model.backbone,
            "train_images": len(split),
            "epochs": full,
            "epochs_measured": epochs_measured or "all",
            "views": views,
            "dtype": str(stage.compute.dtype),
            "device": str(stage.compute.device),
        },
    }


def bench_grid(rounds: int) -> dict[str, list[float]]:
    """Seconds of the whole grid and of one product, one after the other in each round."""
    generator = torch.Generator().manual_seed(0)
    features_ND = torch.randn(SAMPLES, DIM, generator=generator)
    weight_CD = torch.randn(CLASSES, DIM, generator=generator)
    weight_CD *= torch.rand(CLASSES, 1, generator=generator) + 0.5
    labels_N = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    split: Any = SimpleNamespace()
    bank = Features(split, features_ND.half(), labels_N)
    bias_C, grid_T = torch.zeros(CLASSES), tau_grid(TauConfig())
    found: dict[str, list[float]] = {"grid": [], "product": []}
    for number in range(rounds + 1):
        product_s, _ = seconds(lambda: features_ND @ weight_CD.T)
        grid_s, accuracy_T = seconds(
            lambda: accuracies(
                predict_over_grid(weight_CD, bias_C, bank, grid_T),
                labels_N.numpy(),
                CLASSES,
                by_class=True,
            )
        )
        assert len(accuracy_T) == 21
        if number:  # the first is to warm up
            found["product"].append(product_s)
            found["grid"].append(grid_s)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description="What stage 2 costs from the bank of features, and from images."
    )
    parser.add_argument("--run", type=Path, help="a run whose stage 1 has ended")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--rounds", type=int, default=7, help="of the tau grid; 0: leave it out")
    parser.add_argument("--views", type=int, default=0, help="random views of train in the bank")
    parser.add_argument(
        "--epochs-measured", type=int, help="epochs trained on images, the time scaled from them"
    )
    args = parser.parse_args()

    ratios, report = {}, {}
    if args.rounds:
        grid = bench_grid(args.rounds)
        ratios["tau_grid_vs_product"] = statistics.median(grid["grid"]) / statistics.median(
            grid["product"]
        )
        report["runs"] = {f"{name}_s": runs for name, runs in grid.items()}
        for name, runs in grid.items():
            print(f"{name:10} {statistics.median(runs):8.3f} s  {min(runs):.3f} .. {max(runs):.3f}")
    if args.run is not None:
        both = bench_run(args.run, args.views, args.epochs_measured)
        ratios["bank_vs_images"] = both.pop("ratio")
        report |= both
        for way in ("bank_s", "images_s"):
            parts = ", ".join(f"{name} {s:.1f}" for name, s in both[way].items())
            print(f"{way:10} {sum(both[way].values()):8.1f} s  ({parts})")
        if args.epochs_measured is not None:
            print(f"           time on images scaled from {args.epochs_measured} epochs")
        for method, accuracy in both["accuracy"].items():
            images = accuracy["images"]
            there = "" if images is None else f", from images {images:.2f} %"
            print(f"{method:18} from the bank {accuracy['bank']:.2f} %{there}")
    for name, ratio in ratios.items():
        sign, target = TARGETS[name]
        print(f"{name:22} {ratio:8.2f}   target {sign} {target}")
    if args.json:
        conditions = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "threads": torch.get_num_threads(),
            "load_before": os.getloadavg()[0],
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            **report.pop("conditions", {}),
        }
        text = json.dumps({"ratios": ratios, **report, "conditions": conditions}, indent=2)
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
