"""What gpu_check.py measures beside the other tools: a part at a time, in a process of its own.

python tools/_gpu_parts.py PART --device cuda --json FILE
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import _product
import numpy as np
import torch

from fasttail import datasets, engines, rundir, shards, stages
from fasttail.config import ConvertConfig
from fasttail.console import Reporter
from fasttail.datasets.longtail import tail_counts
from fasttail.engines.base import Engine, Plan
from fasttail.engines.source import JPEG, InMemory
from fasttail.engines.trial import run_for
from fasttail.plan import EvalEpoch, TrainEpoch, View
from fasttail.shards.convert import convert
from fasttail.stages import TrainOptions
from fasttail.train import rep
from fasttail.train.checkpoint import load_weights, save_weights
from fasttail.train.step import Step

Figures = dict[str, Any]
# Settings of compute.* for each way to run a network.
MODES = {
    "eager": (),
    "compiled": ("compute.compile=true",),
    "compiled, cuda graphs": ("compute.compile=true", "compute.cuda_graphs=true"),
}
CLASSES = 10
SMALLEST_BATCH = 16
SECONDS = 3.0  # that an engine is run for
QUIET = Reporter(quiet=True)


def speed(args: argparse.Namespace, scratch: Path) -> Figures:
    """Images a second of the product's loop on the engine `synthetic`, in the given mode.

    Where memory is short, with half the batch, down to SMALLEST_BATCH.
    """
    batch = args.batch_size
    while True:
        shards_dir = scratch / f"shards-{batch}"
        _product.shards_of_noise(batch * (args.warm_up + args.steps), 8, CLASSES, shards_dir)
        settings = [*_common(args, batch), f"compute.log_every={args.warm_up}", *MODES[args.mode]]
        run = _product.begin(shards_dir, "photos", settings, scratch / "run")
        found = None
        try:
            found = _product.Speed.of(_product.train(run))
        except torch.OutOfMemoryError:
            if batch // 2 < SMALLEST_BATCH:
                raise
        if found is None:  # the error, and what it held of the training, is gone by now
            print(f"a batch of {batch} does not fit: trying {batch // 2}", flush=True)
            batch //= 2
            torch.cuda.empty_cache()
            continue
        return {"batch": batch, "images_per_s": found.images_per_s, **_memory(args.device)}


def _common(args: argparse.Namespace, batch: int) -> list[str]:
    return [
        f"model.backbone={args.backbone}",
        f"data.px={args.px}",
        "data.engine=synthetic",
        f"optim.batch_size={batch}",
        "optim.epochs=1",
        "optim.lr=0.01",
        f"compute.device={args.device}",
    ]


def _memory(device: str) -> Figures:
    return {"peak_gib": torch.cuda.max_memory_allocated() / 2**30} if device == "cuda" else {}


def fp16(args: argparse.Namespace, scratch: Path) -> Figures:
    """Twenty steps in half precision with a loss scaler: is everything finite at the end?"""
    batch, steps = 32, 20
    shards_dir = _product.shards_of_noise(batch * steps, 8, CLASSES, scratch / "shards")
    amp = "fp16" if args.device == "cuda" else "fp32"
    settings = [*_common(args, batch), f"compute.amp={amp}", "compute.log_every=1"]
    run = _product.begin(shards_dir, "photos", settings, scratch / "run")
    losses = [line["loss"] for line in _product.train(run)]  # raises for what is not finite
    return {"amp": amp, "steps": len(losses), "first_loss": losses[0], "last_loss": losses[-1]}


def survey(args: argparse.Namespace, scratch: Path) -> Figures:
    """Every engine on one image, as `fasttail engines` does it."""
    from fasttail.engines.survey import survey

    found = survey(_device(args))
    for one in found:
        print(f"{one.engine}: {one.note}", flush=True)
    broken = [one.engine for one in found if one.installed and not one.works]
    if broken:
        raise SystemExit(f"installed, and not working: {', '.join(broken)}")
    return {one.engine: one.note for one in found}


def engine(args: argparse.Namespace, scratch: Path) -> Figures:
    """One engine alone: images and CPU seconds; and what it leaves of the GPU to others."""
    shards_dir = _product.shards_of_files(args.images, 20 * args.batch_size, CLASSES, scratch / "s")
    split = shards.open(shards_dir).split("train")
    view = View.random_resized_crop(args.px, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), flip_p=0.5)
    p_C = np.full(CLASSES, 1 / CLASSES)

    def plans(epoch: int) -> Plan:
        return TrainEpoch(
            split, p_C=p_C, view=view, seed=0, epoch=epoch, batch_size=args.batch_size
        )

    with closing(engines.make(args.engine, split, device=_device(args), threads=0)) as made:
        run_for(0.0, made, plans)
        cpu_s = time.process_time()
        images, seconds = run_for(SECONDS, made, plans)
        # Of all threads, but for the first batch, which is not among the images either.
        cpu_s = time.process_time() - cpu_s
        found: Figures = {
            "images_per_s": images / seconds,
            "cpu_s_per_1000": 1000 * cpu_s / (images + args.batch_size),
        }
        if args.device == "cuda":
            found["gpu_left"] = _gpu_left(made, plans)
    return found


def _gpu_left(made: Engine, plans: Callable[[int], Plan]) -> float:
    """The share of its own speed that a queue of matrix products keeps beside an engine."""
    a, b = (torch.randn(4096, 4096, device=made.device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    stream = torch.cuda.Stream(made.device)

    def queue(products: int) -> tuple[torch.cuda.Event, torch.cuda.Event]:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(stream):
            start.record(stream)
            for _ in range(products):
                torch.mm(a, b, out=out)
            end.record(stream)
        return start, end

    stream.wait_stream(torch.cuda.current_stream(made.device))
    queue(20)
    torch.cuda.synchronize()
    start, end = queue(200)
    torch.cuda.synchronize()
    products = max(200, int(200 * 1000 / start.elapsed_time(end)))  # about a second
    start, end = queue(products)
    torch.cuda.synchronize()
    alone_ms = start.elapsed_time(end)
    started = False
    for epoch in count():
        with closing(made.run(plans(epoch))) as batches:
            for _ in batches:
                if not started:
                    (start, end), started = queue(products), True
                elif end.query():
                    torch.cuda.synchronize()
                    return alone_ms / start.elapsed_time(end)
    raise AssertionError("count() has no end")


def sampling(args: argparse.Namespace, scratch: Path) -> Figures:
    """DALI's pixels against the reference's, mean difference of 255, by kind of JPEG; and what
    decodes each."""
    from fasttail.engines.dali_backend import decoded_by, samples

    device, found = _device(args), {}
    by = decoded_by(device)
    for kind, stored in samples().items():
        source = InMemory([kind], [stored], [JPEG], [(192, 256)])
        plan = EvalEpoch(source, view=View.center(128, 160), batch_size=1)
        images = []
        for name, where in (("dali", device), ("reference", torch.device("cpu"))):
            with closing(engines.make(name, source, device=where, threads=1)) as made:
                (batch,) = made.run(plan)
                images.append(batch.images_BHWC.cpu().float())
        found[kind] = float((images[0] - images[1]).abs().mean())
        found[f"{kind} by"] = by.get(kind, "nothing")
    if max(value for value in found.values() if isinstance(value, float)) > 1.5:
        raise SystemExit(f"too far from the reference: {found}")
    return found


class Killed(Exception):
    """Stands for a kill."""


def resume(args: argparse.Namespace, scratch: Path) -> Figures:
    """A run that is stopped in the middle and resumed, against one that is not; and two that are
    not, since a GPU's sums may come in another order each time."""
    shards_dir = _product.shards_of_noise(640, 32, CLASSES, scratch / "shards")

    def options(name: str, **more: Any) -> TrainOptions:
        settings = ("optim.batch_size=32", "compute.checkpoint_every_min=1e-9", "data.px=32")
        where = f"compute.device={args.device}"
        quiet = ("compute.tensorboard=false", "compute.report=false", "optim.lr=0.02")
        return TrainOptions(
            **{
                "stage": "rep",
                "shards": shards_dir,
                "config": "small-images",
                "run": scratch / name,
                "settings": (*settings, *quiet, where, "optim.epochs=2"),
                **more,
            }
        )

    one, other = (stages.train(options(name), QUIET) for name in ("one", "other"))
    real, steps = Step.__call__, count()

    def dies(self: Step, *given: Any, **named: Any) -> torch.Tensor:
        if next(steps) == 25:
            raise Killed
        return real(self, *given, **named)

    Step.__call__ = dies  # type: ignore[method-assign]
    try:
        stages.train(options("cut"), QUIET)
    except Killed:
        pass
    finally:
        Step.__call__ = real  # type: ignore[method-assign]
    cut = stages.train(options("cut", shards=None, config=None, settings=(), resume=True), QUIET)
    twice, resumed = (_furthest(one, run) for run in (other, cut))
    return {
        "bit_for_bit": resumed == 0,
        "furthest_weight": resumed,
        "the_same_run_twice_is_bit_for_bit": twice == 0,
        "furthest_weight_of_the_same_run_twice": twice,
    }


def _furthest(run: rundir.Run, other: rundir.Run) -> float:
    """The largest difference between two runs' weights."""
    a, b = (load_weights(one.model_path)[0] for one in (run, other))
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def stage2(args: argparse.Namespace, scratch: Path) -> Figures:
    """Features of 2,560 images by ResNet-50, and every head on them."""
    images = 2560 if args.device == "cuda" else 64
    shards_dir = _product.shards_of_files(args.images, images, CLASSES, scratch / "shards")
    backbone = "resnet50" if args.device == "cuda" else "resnet10"
    settings = [f"model.backbone={backbone}", f"data.px={args.px}", "optim.batch_size=32"]
    run = _product.begin(
        shards_dir, "photos", [*settings, f"compute.device={args.device}"], scratch / "run"
    )
    save_weights(run.model_path, rep.new_model(run.config, CLASSES).state_dict(), {})
    found: Figures = {"images": images}
    for name, methods in (("features_s", "ncm"), ("heads_s", "crt,lws,tau,ncm")):
        start_s = time.perf_counter()
        stages.train(TrainOptions(stage="cls", run=run.dir, method=methods), QUIET)
        found[name] = time.perf_counter() - start_s
    return {**found, **_memory(args.device)}


def cifar(args: argparse.Namespace, scratch: Path) -> Figures:
    """The recipe on CIFAR-10-LT with all heads; without --cifar on noise of that size, whose
    accuracies mean nothing and are left out."""
    shards_dir = scratch / "cifar10-lt"
    if args.cifar is not None:
        rule = ConvertConfig()
        convert(datasets.index("cifar10-lt", args.cifar, rule), shards_dir, rule)
    else:
        total = int(tail_counts(5000, 100, CLASSES).sum()) if args.epochs > 2 else 256
        _product.shards_of_noise(total, 32, CLASSES, shards_dir)
    settings = [f"optim.epochs={args.epochs}", f"compute.device={args.device}"]
    if args.device == "cuda":
        settings += MODES["compiled, cuda graphs"]
    quiet = ("compute.tensorboard=false", "compute.report=false")
    start_s = time.perf_counter()
    run = stages.train(
        TrainOptions(
            stage="rep",
            shards=shards_dir,
            config="cifar10-lt",
            run=scratch / "run",
            settings=(*settings, *quiet),
        ),
        QUIET,
    )
    found: Figures = {"stage1_s": time.perf_counter() - start_s}
    lines = [json.loads(line) for line in run.log_path.read_text().splitlines()]
    found["epochs"] = 1 + max(line["epoch"] for line in lines if line["kind"] == "train")
    if not run.model_path.exists():  # its time was up
        print(f"asked to leave in epoch {found['epochs']} of {args.epochs}", flush=True)
        return found
    start_s = time.perf_counter()
    stages.train(TrainOptions(stage="cls", run=run.dir, method="all"), QUIET)
    found["stage2_s"] = time.perf_counter() - start_s
    if args.cifar is not None:
        found |= {row["method"]: row["all_micro"] for row in run.rows() if row["split"] == "test"}
    return found


def _device(args: argparse.Namespace) -> torch.device:
    return torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")


PARTS: dict[str, Callable[[argparse.Namespace, Path], Figures]] = {
    part.__name__: part for part in (speed, fp16, survey, engine, sampling, resume, stage2, cifar)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--mode", choices=MODES, default="eager")
    parser.add_argument("--engine", default="ffcv")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpu-parts-") as scratch:
        found = PARTS[args.part](args, Path(scratch))
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
