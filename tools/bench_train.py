"""Does training wait for its images? The product's own loop with and without decoding, and fed by
what a user could load images with instead.

    python tools/bench_train.py --images DIR [--json FILE]     ResNet-10 at 112 px
    python tools/bench_train.py --cifar [--json FILE]          ResNet-32 on images of 32 px

With `--images`, contenders take turns for `--rounds` rounds in one process. Each trains a new
model for `--steps` steps by `fasttail.train.rep`, and log.jsonl says how fast; the first
`--warm-up` steps do not count.

    synthetic         one random batch again and again: the model alone
    fasttail          the engine `--engine` (auto: what a user would get)
    fasttail, N px    the same with `--max-side N`: from shards of `fasttail convert --max-side N`
    the others        torchvision, Pillow, stock FFCV, plain DALI, each as an engine of that loop

`real_vs_synthetic` is the median over the rounds of fasttail / synthetic, `of_synthetic` that of
every contender, `waiting_share` the median share of the time that the loop waited for its next
batch. "loader alone" is the engine without a model.

With `--cifar`, `outside_share` is the share of the time of an epoch that is not forward, loss,
backward or optimizer: plan, gather, augment, logging, checkpoint.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import _peers
import _product
import numpy as np
import torch
from _parts import OUTSIDE, PartsClock

from fasttail import engines, shards
from fasttail.compute import pick
from fasttail.engines.base import Batch, Plan
from fasttail.engines.source import Source
from fasttail.plans import train_epochs, train_view
from fasttail.world import World

TARGETS = {
    "real_vs_synthetic": (0.95, True),
    "waiting_share": (0.02, False),
    "outside_share": (0.05, False),
}
ON_GPU = {"real_vs_synthetic": (0.97, True)}
SYNTHETIC, OURS = "synthetic", "fasttail"
CLASSES = 10


class PeerEngine:
    """A peer's loader in the place of an engine: its batches instead of the planned ones."""

    def __init__(self, name: str, epoch: _peers.Epoch, device: torch.device, threads: int) -> None:
        self.name, self.device = name, device
        self._epoch, self._threads = epoch, threads

    def run(self, plan: Plan, start: int = 0) -> Generator[Batch]:
        batches = self._epoch(0)
        for _step, raw in zip(range(start, plan.steps), batches, strict=False):
            torch.set_num_threads(self._threads)  # stock FFCV's loader sets it to its own
            images_BHWC = _images(raw).to(self.device, non_blocking=True)
            labels_B = torch.zeros(len(images_BHWC), dtype=torch.int64, device=self.device)
            yield Batch(images_BHWC, labels_B, labels_B)

    def close(self) -> None:
        pass


def _images(raw: Any) -> torch.Tensor:
    """uint8 [B, H, W, 3] of what a peer calls a batch."""
    images = raw[0]
    if isinstance(images, torch.Tensor):
        return images.permute(0, 2, 3, 1) if images.shape[1] == 3 else images
    # DALI takes its memory back after the step: the copy is what its PyTorch plugin does too.
    return torch.from_dlpack(images.as_tensor()).clone()


def peer_engines(args: argparse.Namespace, shards_dir: Path) -> dict[str, Callable[..., Any]]:
    """The peers that are installed here, as factories of engines."""
    files = _product.jpegs(args.images)
    count = (args.steps + args.warm_up) * args.batch_size
    job = _peers.Job(
        files=files,
        image_N=np.arange(count) % len(files),
        labels_N=np.zeros(count, np.int64),
        px=args.px,
        batch=args.batch_size,
        steps=args.steps + args.warm_up,
        threads=args.threads,
        device=args.device,
    )
    ids = np.random.default_rng(0).permutation(count)
    beton = shards_dir / "train-00000.beton"
    in_shards = _peers.Job(**{**vars(job), "image_N": np.arange(count)})
    makers: dict[str, Callable[[], _peers.Epoch]] = {
        "torchvision decode + DataLoader": lambda: _peers.torchvision(job),
        "PIL + DataLoader": lambda: _peers.pil(job),
        "stock FFCV": lambda: _peers.stock_ffcv(in_shards, beton, ids),
        "plain DALI": lambda: _peers.plain_dali(job),
    }
    threads = torch.get_num_threads()
    found = {}
    for name, make in makers.items():
        try:
            epoch = make()
        except (ImportError, RuntimeError) as error:
            print(f"{name}: not here: {str(error).splitlines()[0]}", flush=True)
            continue
        finally:
            torch.set_num_threads(threads)

        def factory(
            split: Source, device: torch.device, _: int, name: str = name, epoch: Any = epoch
        ) -> PeerEngine:
            return PeerEngine(name, epoch, device, threads)

        found[name] = factory
    return found


def loader_alone(args: argparse.Namespace, run: Any) -> float:
    """Images a second of fasttail's engine, nobody computing."""
    config, split = run.config, shards.open(run.shards_dir).split("train")
    device = pick(config.compute, World()).device
    plan = train_epochs(
        config,
        split,
        seed=1,
        sampler="instance",
        optim=config.optim,
        view=train_view(config.data),
        world=World(),
    )(0)
    with closing(
        engines.make(config.data.engine, split, device=device, threads=args.threads)
    ) as engine:
        for _ in engine.run(plan):  # checksums, page cache
            pass
        start = time.perf_counter()
        images = sum(len(batch.ids_B) for batch in engine.run(plan))
        if device.type == "cuda":
            torch.cuda.synchronize()
        return images / (time.perf_counter() - start)


def settings(args: argparse.Namespace, engine: str) -> list[str]:
    return [
        f"model.backbone={args.backbone}",
        f"data.px={args.px}",
        f"data.engine={engine}",
        f"data.threads={args.threads}",
        f"optim.batch_size={args.batch_size}",
        "optim.epochs=1",
        "optim.lr=0.01",
        f"compute.device={args.device}",
        f"compute.amp={args.amp}",
        f"compute.compile={str(args.compile).lower()}",
        f"compute.log_every={args.warm_up}",
        *args.set,
    ]


def bench(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Everyone in turn; the figures."""
    samples = (args.warm_up + args.steps) * args.batch_size
    shards_dir = _product.shards_of_files(args.images, samples, CLASSES, scratch / "shards")
    peers = {} if args.no_peers else peer_engines(args, shards_dir)
    engines.ENGINES.update(peers)
    fed = {SYNTHETIC: ("synthetic", shards_dir), OURS: (args.engine, shards_dir)}
    fed |= {name: (name, shards_dir) for name in peers}
    if args.max_side:
        smaller = _product.shards_of_files(
            args.images, samples, CLASSES, scratch / "smaller", args.max_side
        )
        fed[f"{OURS}, {args.max_side} px"] = (args.engine, smaller)
    speeds: dict[str, list[_product.Speed]] = {name: [] for name in fed}
    alone = []
    for number in range(args.rounds):
        # Every other round the other way round, so that a drift of the machine favours nobody.
        for name in list(fed)[:: -1 if number % 2 else 1]:
            engine, folder = fed[name]
            run = _product.begin(folder, "photos", settings(args, engine), scratch / "run")
            speeds[name].append(_product.Speed.of(_product.train(run)))
        run = _product.begin(shards_dir, "photos", settings(args, args.engine), scratch / "run")
        alone.append(loader_alone(args, run))
        print(f"round {number + 1}/{args.rounds}", flush=True)
    rates = {name: [speed.images_per_s for speed in rounds] for name, rounds in speeds.items()}
    waits = {name: [speed.waiting_share for speed in rounds] for name, rounds in speeds.items()}
    rates["loader alone"] = alone
    print(f"\n{'':<34}images/s   of synthetic   waiting for data")
    for name, rounds in sorted(rates.items(), key=lambda item: -median(item[1])):
        line = f"{name:<34}{median(rounds):>8.0f}"
        if name in waits:
            share = _product.median_ratio(rounds, rates[SYNTHETIC])
            line += f"{share:>14.1%}{median(waits[name]):>18.1%}"
        print(line, flush=True)
    return {
        "real_vs_synthetic": _product.median_ratio(rates[OURS], rates[SYNTHETIC]),
        "waiting_share": median(waits[OURS]),
        "of_synthetic": {
            name: _product.median_ratio(rates[name], rates[SYNTHETIC]) for name in waits
        },
        "images_per_s": {
            name: {"median": median(rounds), "rounds": rounds} for name, rounds in rates.items()
        },
        "waiting": waits,
    }


def bench_cifar(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Where the time of an epoch goes, with small images that live on the device."""
    shards_dir = _product.shards_of_noise(args.cifar_images, 32, CLASSES, scratch / "shards")
    rounds = []
    for _ in range(args.rounds):
        run = _product.begin(
            shards_dir,
            "small-images",
            [
                "data.engine=resident",
                f"optim.epochs={1 + args.epochs}",
                f"compute.device={args.device}",
                f"compute.amp={args.amp}",
                *args.set,
            ],
            scratch / "run",
        )
        # The first epoch is there for what happens only once.
        with PartsClock(skip_epochs=1, device=args.device) as clock:
            _product.train(run)
        rounds.append(clock.seconds)
    parts = {name: median(seconds[name] for seconds in rounds) for name in rounds[0]}
    total = sum(parts.values())
    print(f"\n{'part of an epoch':<34}seconds    share")
    for name, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"{name:<34}{seconds / args.epochs:>7.3f}{seconds / total:>9.1%}", flush=True)
    return {
        "outside_share": median(
            sum(seconds[name] for name in OUTSIDE) / sum(seconds.values()) for seconds in rounds
        ),
        "epoch_s": total / args.epochs,
        "images_per_s": args.epochs * args.cifar_images / total,
        "parts_s": {name: [seconds[name] for seconds in rounds] for name in parts},
    }


def verdict(figures: dict[str, Any], device: str) -> None:
    targets = TARGETS | (ON_GPU if device == "cuda" else {})
    print()
    for key, (target, more) in targets.items():
        if key in figures:
            met = (figures[key] >= target) == more or figures[key] == target
            print(
                f"{key:<20}{figures[key]:>8.3f}   {'>=' if more else '<='} {target}"
                f"{'' if met else '   MISSED'}"
            )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", type=Path, help="a folder of JPEG files, searched recursively")
    what.add_argument("--cifar", action="store_true", help="the overhead with small images")
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--px", type=int, default=112)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--engine", default="auto", choices=engines.names())
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--amp", default="auto", choices=("auto", "bf16", "fp16", "fp32"))
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="that count, of one training")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before, that don't count")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--max-side", type=int, help="train on shards of smaller images too, as of convert"
    )
    parser.add_argument("--no-peers", action="store_true", help="only fasttail and synthetic")
    parser.add_argument("--cifar-images", type=int, default=12_406)
    parser.add_argument("--epochs", type=int, default=2, help="of --cifar, that count")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as of fasttail train"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def main() -> None:
    args = parse()
    conditions = _product.conditions()
    with tempfile.TemporaryDirectory(prefix="bench-train-") as scratch:
        figures = (bench_cifar if args.cifar else bench)(args, Path(scratch))
    verdict(figures, args.device)
    given = {key: str(value) for key, value in vars(args).items()}
    print("\n" + "\n".join(f"{key}: {value}" for key, value in conditions.items()))
    if args.json:
        found = {**figures, "conditions": {**conditions, "arguments": given}}
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
