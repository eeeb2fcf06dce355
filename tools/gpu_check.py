"""What only a machine with an NVIDIA GPU can show, in one go: the `gpu` tests, how fast images are
loaded, how fast networks train, and whether training waits for its images.

    python tools/gpu_check.py [--images DIR] [--json FILE] [--quick] [--only PART]

Needs no network, and of packages only what fasttail needs to train. What is not installed is
skipped, and said so; without `--images` it makes photographs itself; without a compiler it takes
the decoding kernel from $FASTTAIL_KERNEL_DIR, if there is one. Each part runs in a process of its
own, with a time limit, and none stops the others. Parts that `--minutes` leaves no time for are
skipped.

Exit code 0: all that ran passed; 1: something failed; 2: there is no GPU to check.
"""

import argparse
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TAIL = 4000  # characters of a part's output that are kept
TOLD = ("images_per_s", "batch", "real_vs_synthetic", "waiting_share", "outside_share")
LEAST_S = 20  # what a part is not begun with less than
PARTS = ("kernel", "tests", "train", "real", "cifar", "loaders", "compiled")


@dataclass(frozen=True)
class Size:
    """How much work the parts are given."""

    backbones: tuple[str, ...]
    px: int
    batch: int
    steps: int
    warm_up: int
    rounds: int
    photos: int
    draws: int
    cifar_images: int


FULL = Size(("resnet50", "resnext50"), 224, 256, 40, 10, 3, 400, 5120, 12_406)
QUICK = Size(("resnet50",), 224, 128, 10, 5, 1, 64, 1280, 4096)
TINY = Size(("resnet10",), 32, 8, 4, 2, 1, 8, 32, 256)  # for the tests, on a CPU


def installed(*packages: str) -> bool:
    """Whether these can be imported."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


@dataclass
class Check:
    """The parts' results, and the time that is left for more."""

    device: str
    size: Size
    scratch: Path
    ends_s: float
    images: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)

    def skip(self, name: str, why: str) -> None:
        """A part that can't be run here."""
        print(f"\n== {name}: skipped: {why}", flush=True)
        self.results.append({"name": name, "rc": None, "skipped": why})

    def run(self, name: str, command: Sequence[str], *, limit_s: float) -> dict[str, Any] | None:
        """Runs a part and shows what it prints; it may write its figures to `--json`'s file, which
        is added to the command. None if there was no time left."""
        left_s = self.ends_s - time.monotonic()
        if left_s < LEAST_S:
            self.skip(name, "no time left (--minutes)")
            return None
        figures = self.scratch / f"{len(self.results)}.json"
        command = [part.replace("FIGURES", str(figures)) for part in command]
        print(f"\n== {name}: {' '.join(command)}", flush=True)
        start_s = time.perf_counter()
        rc, output = step(command, min(limit_s, left_s), self.environment)
        print(output, flush=True)
        result: dict[str, Any] = {
            "name": name,
            "rc": rc,
            "wall_s": time.perf_counter() - start_s,
            "output": output,
        }
        if figures.exists():
            result["figures"] = json.loads(figures.read_text())
        self.results.append(result)
        return result

    def tool(self, name: str, script: str, *options: object, limit_s: float) -> None:
        """A part that is one of the tools."""
        command = [sys.executable, f"tools/{script}", *map(str, options), "--json", "FIGURES"]
        self.run(name, command, limit_s=limit_s)

    # ---- the parts ----------------------------------------------------------------------------

    def kernel(self) -> None:
        """Builds the decoding kernel, beside nothing: the checkout stays as it is."""
        if "FASTTAIL_KERNEL_DIR" in os.environ:
            self.skip("kernel", f"taken from {os.environ['FASTTAIL_KERNEL_DIR']}")
            return
        folder = self.scratch / "kernel"
        command = [sys.executable, "-m", "fasttail.kernels.build", "--out", str(folder)]
        result = self.run("kernel", command, limit_s=120)
        if result is not None and result["rc"] == 0:
            self.environment["FASTTAIL_KERNEL_DIR"] = str(folder)
        elif result is not None and result["rc"] == 2:
            # No compiler, or no headers: its last lines say which. Other decoders serve.
            result.update(rc=None, skipped="no kernel can be built here, others decode")
            print("no kernel can be built here: FFCV's decoder or Pillow serves", flush=True)

    def tests(self) -> None:
        if not installed("pytest"):
            self.skip("gpu tests", "pytest is not installed")
            return
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
        self.run("gpu tests", command, limit_s=180)

    def train(self, modes: Sequence[str] = ("eager", "cuda graphs")) -> None:
        """Networks on synthetic images, bf16, channels-last."""
        size = self.size
        for mode in modes:
            if "graphs" in mode and self.device != "cuda":
                continue
            for backbone in size.backbones:
                self.tool(
                    f"training {backbone}, {mode}",
                    "_gpu_parts.py",
                    *("--backbone", backbone, "--mode", mode, "--device", self.device),
                    *("--px", size.px, "--batch-size", size.batch),
                    *("--steps", size.steps, "--warm-up", size.warm_up),
                    limit_s=180,
                )

    def compiled(self) -> None:
        """The same by torch.compile, last of all: compiling takes a minute each."""
        self.train(("compiled", "compiled, cuda graphs"))

    def real(self) -> None:
        """The product's loop with and without decoding."""
        size = self.size
        self.tool(
            "real against synthetic",
            "bench_train.py",
            *("--images", self.photos(), "--device", self.device, "--no-peers"),
            *("--backbone", size.backbones[0], "--px", size.px, "--batch-size", size.batch),
            *("--steps", size.steps, "--warm-up", size.warm_up, "--rounds", size.rounds),
            limit_s=150,
        )

    def cifar(self) -> None:
        size = self.size
        self.tool(
            "CIFAR-LT's size, resident",
            "bench_train.py",
            *("--cifar", "--device", self.device, "--rounds", size.rounds),
            *("--cifar-images", size.cifar_images),
            limit_s=90,
        )

    def loaders(self) -> None:
        size = self.size
        self.tool(
            "loaders",
            "bench_loaders.py",
            *("--images", self.photos(), "--device", self.device, "--only", "plain"),
            *("--rounds", size.rounds, "--draws", size.draws, "--batch", size.batch),
            limit_s=150,
        )

    def photos(self) -> Path:
        """The JPEG files to work on, made here if none were given."""
        if self.images is None:
            self.images = self.scratch / "photos"
            sys.path.insert(0, str(ROOT / "tools"))
            from _gpu_parts import make_photos

            make_photos(self.images, self.size.photos)
        return self.images


def step(command: Sequence[str], limit_s: float, environment: dict[str, str]) -> tuple[int, str]:
    """Runs a command and all that it starts, for at most so long: its exit code (124 if it took too
    long) and the end of what it printed."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return 124, output[-TAIL:] + f"\nended: it took longer than {limit_s:.3g} s\n"
    return process.returncode, output[-TAIL:]


def conditions(device: str) -> dict[str, Any]:
    import torch

    return {
        "gpu": torch.cuda.get_device_name(0) if device == "cuda" else None,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


def summary(results: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each part."""
    lines = []
    for result in results:
        figures = result.get("figures", {})
        text = ", ".join(
            f"{key} {figures[key]:.4g}" for key in TOLD if isinstance(figures.get(key), int | float)
        )
        state = {0: "passed", None: f"skipped: {result.get('skipped')}"}
        lines.append(f"{result['name']:<40}{state.get(result['rc'], 'FAILED'):<10}{text}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, help="a folder of JPEG files, searched recursively")
    parser.add_argument("--json", type=Path, help="write what was found here")
    parser.add_argument("--quick", action="store_true", help="about two minutes: is it all there?")
    parser.add_argument("--minutes", type=float, default=9.5, help="at most so long")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help=argparse.SUPPRESS)
    args = parser.parse_args()
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        print("gpu_check: torch finds no NVIDIA GPU here: nothing to check", file=sys.stderr)
        sys.exit(2)
    found_here = conditions(args.device)
    print(json.dumps(found_here, indent=1))
    size = TINY if args.device == "cpu" else QUICK if args.quick else FULL
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        check = Check(
            args.device,
            size,
            Path(scratch),
            ends_s=time.monotonic() + 60 * args.minutes,
            images=args.images.resolve() if args.images else None,
        )
        for part in PARTS:
            if not args.only or part in args.only:
                getattr(check, part)()
    failed = [result["name"] for result in check.results if result["rc"] not in (0, None)]
    print("\n" + "\n".join(summary(check.results)))
    print(f"\nfailed: {', '.join(failed) or 'nothing'}")
    if args.json:
        found = {"conditions": found_here, "steps": check.results}
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
