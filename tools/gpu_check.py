"""What only a machine with an NVIDIA GPU can show, unattended and in one go of at most 500 seconds.

    python tools/gpu_check.py --json FILE [--images DIR] [--cifar DIR] [--seconds 500] [--only PART]

Runs from a checkout, without network and without installing fasttail; says at once which packages
it lacks. What is optional and not there (DALI, pytest, a compiler) is skipped by its name. Without
`--images` it makes photographs itself; without `--cifar`, CIFAR-10's folder, it trains on made-up
images of that size, which shows the time and no accuracy. The decoding kernel is built beside the
checkout, or taken from $FASTTAIL_KERNEL_DIR.

Each part is a process of its own with a time limit: an exception or a crash fails that part alone.
What matters most comes first, what there is no time left for is skipped, and FILE is written after
each part, so that nothing is lost however this ends. At the end come a line for each part, and the
figures as a table in Markdown.

Exit code 0: all that ran passed; 1: something failed; 2: there is no GPU, or a package is missing.
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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TAIL = 4000  # characters of a part's output that are kept
LEAST_S = 12  # what a part is not begun with less than
GRACE_S = 6  # for a part to end by itself when its time is up
NEEDED = {
    **{name: name for name in ("torch", "torchvision", "numpy", "numba", "typer", "rich")},
    **{"yaml": "PyYAML", "safetensors": "safetensors", "pydantic": "pydantic", "PIL": "Pillow"},
}
OPTIONAL = {"nvidia.dali": "DALI", "triton": "Triton", "pytest": "pytest", "ffcv": "FFCV"}
# By worth: what comes last may find no time left.
PARTS = (
    *("kernel", "survey", "tests", "real", "fp16", "engines", "resume", "sampling"),
    *("stage2", "cifar", "speed"),
)


@dataclass(frozen=True)
class Size:
    """How much work the parts are given."""

    backbones: tuple[str, ...]
    px: int
    batch: int
    steps: int
    warm_up: int
    photos: int
    epochs: int


FULL = Size(("resnet50", "resnext50", "resnet10"), 224, 256, 40, 10, 400, 200)
TINY = Size(("resnet10",), 32, 8, 4, 2, 8, 2)  # for the tests, on a CPU


def is_here(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # nor is what it is in
        return False


@dataclass
class Check:
    """The parts' results so far, and the time that is left for more."""

    device: str
    size: Size
    scratch: Path
    ends_s: float
    images: Path | None = None
    cifar10: Path | None = None
    json: Path | None = None
    conditions: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)

    def keep(self, result: dict[str, Any]) -> None:
        self.results.append(result)
        self.write()

    def write(self) -> None:
        """Writes what there is by now."""
        if self.json is not None:
            found = {"conditions": self.conditions, "parts": self.results}
            beside = self.json.with_name(f".{self.json.name}.tmp")
            beside.write_text(json.dumps(found, indent=1) + "\n")
            beside.replace(self.json)

    def skip(self, name: str, why: str) -> None:
        """A part that can't be run here."""
        print(f"\n== {name}: skipped: {why}", flush=True)
        self.keep({"name": name, "rc": None, "skipped": why})

    def run(self, name: str, command: Sequence[str], *, limit_s: float) -> dict[str, Any] | None:
        """Runs a part and shows what it prints. It may write figures to the file whose name stands
        for FIGURES in the command. None if there is no time left."""
        left_s = self.ends_s - time.monotonic() - GRACE_S
        if left_s < LEAST_S:
            self.skip(name, "no time left (--seconds)")
            return None
        figures = self.scratch / f"{len(self.results)}.json"
        command = [part.replace("FIGURES", str(figures)) for part in command]
        print(f"\n== {name}: {' '.join(command)}", flush=True)
        start_s = time.perf_counter()
        rc, output = step(command, min(limit_s, left_s), self.environment)
        print(output, flush=True)
        wall_s = round(time.perf_counter() - start_s, 1)
        result: dict[str, Any] = {"name": name, "rc": rc, "wall_s": wall_s, "output": output}
        if figures.exists():
            result["figures"] = json.loads(figures.read_text())
        self.keep(result)
        return result

    def part(self, name: str, part: str, *options: object, limit_s: float) -> None:
        """One of _gpu_parts.py's."""
        command = [sys.executable, "tools/_gpu_parts.py", part, "--device", self.device]
        command += [*map(str, options), "--json", "FIGURES"]
        self.run(name, command, limit_s=limit_s)

    # ---- the parts ----------------------------------------------------------------------------

    def kernel(self) -> None:
        """Builds the decoding kernel, beside the checkout, which stays as it is."""
        if "FASTTAIL_KERNEL_DIR" in os.environ:
            self.skip("kernel", f"taken from {os.environ['FASTTAIL_KERNEL_DIR']}")
            return
        folder = self.scratch / "kernel"
        command = [sys.executable, "-m", "fasttail.kernels.build", "--out", str(folder)]
        result = self.run("kernel", command, limit_s=60)
        if result is None:
            return
        if result["rc"] == 0:
            self.environment["FASTTAIL_KERNEL_DIR"] = str(folder)
        elif result["rc"] == 2:  # no compiler, or no headers: its last lines say which
            result.update(rc=None, skipped="no kernel can be built here")
            self.write()
            print("no kernel can be built here: less is measured, on fewer images", flush=True)

    @property
    def has_kernel(self) -> bool:
        return "FASTTAIL_KERNEL_DIR" in {**os.environ, **self.environment}

    def survey(self) -> None:
        """Which engines work, and which JPEGs DALI decodes by what."""
        self.part("engines that work", "survey", limit_s=60)

    def tests(self) -> None:
        if not is_here("pytest"):
            self.skip("gpu tests", "pytest is not installed")
            return
        # By their file: what other tests import need not be here.
        tests = ["-m", "gpu", "-p", "no:cacheprovider", "tests/engines/test_gpu.py"]
        command = [sys.executable, "-m", "pytest", "-q", *tests]
        self.run("gpu tests", command, limit_s=90)

    def real(self, backbones: Sequence[str] | None = None) -> None:
        """The product's loop with and without decoding: does training wait for its images?"""
        size = self.size
        steps = size.steps if self.has_kernel else max(4, size.steps // 8)
        for backbone in backbones or size.backbones[:2]:
            compiled = ["--compile"] if self.device == "cuda" else []
            command = [sys.executable, "tools/bench_train.py", "--images", str(self.photos())]
            command += ["--device", self.device, "--no-peers", "--rounds", "1", *compiled]
            command += ["--backbone", backbone, "--px", str(size.px)]
            command += ["--batch-size", str(size.batch), "--steps", str(steps)]
            command += ["--warm-up", str(size.warm_up), "--json", "FIGURES"]
            self.run(f"real against synthetic, {backbone}", command, limit_s=120)

    def fp16(self) -> None:
        self.part("fp16, 20 steps", "fp16", "--px", self.size.px, limit_s=60)

    def engines(self) -> None:
        """Each engine alone and beside a busy GPU. One that dies fails by itself."""
        for engine in ("ffcv", "dali", "dali-region"):
            if engine == "ffcv" and not self.has_kernel:
                self.skip(f"engine {engine}", "no kernel")
            elif engine != "ffcv" and not is_here("nvidia.dali"):
                self.skip(f"engine {engine}", "DALI is not installed")
            else:
                options = ("--engine", engine, "--images", self.photos(), "--px", self.size.px)
                batch = ("--batch-size", self.size.batch)
                self.part(f"engine {engine}", "engine", *options, *batch, limit_s=45)

    def resume(self) -> None:
        self.part("kill and resume", "resume", limit_s=60)

    def sampling(self) -> None:
        if not is_here("nvidia.dali"):
            self.skip("DALI against reference", "DALI is not installed")
            return
        self.part("DALI against reference", "sampling", limit_s=45)

    def stage2(self) -> None:
        options = ("--images", self.photos(), "--px", self.size.px)
        self.part("features and heads", "stage2", *options, limit_s=60)

    def cifar(self) -> None:
        """The whole recipe on CIFAR-10-LT, with all heads."""
        options = ["--epochs", self.size.epochs]
        if self.cifar10 is not None:
            options += ["--cifar", self.cifar10]
        self.part(f"CIFAR-10-LT, {self.size.epochs} epochs", "cifar", *options, limit_s=240)

    def speed(self) -> None:
        """Networks alone, compiled and not; and what there was no time for before."""
        self.real(self.size.backbones[2:])
        for backbone in self.size.backbones:
            for mode in ("eager", "compiled, cuda graphs")[: 1 if self.device == "cpu" else 2]:
                options = ("--backbone", backbone, "--mode", mode, "--px", self.size.px)
                steps = ("--batch-size", self.size.batch, "--steps", self.size.steps)
                warm_up = ("--warm-up", self.size.warm_up)
                name = f"training {backbone}, {mode}"
                self.part(name, "speed", *options, *steps, *warm_up, limit_s=90)

    def photos(self) -> Path:
        """The JPEG files to work on, made here if none were given."""
        if self.images is None:
            sys.path.insert(0, str(ROOT / "tools"))
            from _photos import make_photos

            self.images = self.scratch / "photos"
            make_photos(self.images, self.size.photos)
        return self.images


def step(command: Sequence[str], limit_s: float, environment: dict[str, str]) -> tuple[int, str]:
    """Runs a command and all that it starts: its exit code and the end of what it printed. When its
    time is up it is asked to leave, and then ended: exit code 124."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        output = _ended(process)[-TAIL:]
        return 124, f"{output}\nended: it took longer than {limit_s:.3g} s\n"
    return process.returncode, output[-TAIL:]


def _ended(process: subprocess.Popen[str]) -> str:
    """Asks a process and its own to leave, then ends them: what they have printed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=GRACE_S)[0]
    return ""


def conditions(device: str) -> dict[str, Any]:
    import torch

    return {
        "gpu": torch.cuda.get_device_name(0) if device == "cuda" else None,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "lacking": [name for package, name in OPTIONAL.items() if not is_here(package)],
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


def state(result: dict[str, Any]) -> str:
    if result["rc"] is None:
        return f"skipped: {result['skipped']}"
    return "passed" if result["rc"] == 0 else "FAILED"


def told(result: dict[str, Any]) -> str:
    """A part's figures that are single numbers, words or yes and no."""
    figures = result.get("figures", {})
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in figures.items()
        if isinstance(value, bool | int | float | str)
    )


def table(found: dict[str, Any], results: Sequence[dict[str, Any]]) -> str:
    """All of it in Markdown, with the device's name."""
    lines = [f"| {found['gpu'] or 'CPU'}, torch {found['torch']} | | |", "| --- | --- | --- |"]
    lines += [f"| {result['name']} | {state(result)} | {told(result)} |" for result in results]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write what is found here, after each part")
    parser.add_argument("--images", type=Path, help="a folder of JPEG files, searched recursively")
    parser.add_argument("--cifar", type=Path, help="the folder of CIFAR-10's python version")
    parser.add_argument("--seconds", type=float, default=500, help="at most so long")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help=argparse.SUPPRESS)
    args = parser.parse_args()
    ends_s = time.monotonic() + args.seconds
    missing = [name for package, name in NEEDED.items() if not is_here(package)]
    if missing:
        print(f"gpu_check: not installed: {', '.join(missing)}", file=sys.stderr)
        sys.exit(2)
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        print("gpu_check: torch finds no NVIDIA GPU here: nothing to check", file=sys.stderr)
        sys.exit(2)
    found = conditions(args.device)
    print(json.dumps(found, indent=1), flush=True)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        check = Check(
            args.device,
            TINY if args.device == "cpu" else FULL,
            Path(scratch),
            ends_s,
            images=args.images and args.images.resolve(),
            cifar10=args.cifar and args.cifar.resolve(),
            json=args.json,
            conditions=found,
        )
        for part in PARTS:
            if not args.only or part in args.only:
                getattr(check, part)()
    for result in check.results:
        print(f"{result['name']:<40}{state(result):<10}{told(result)}")
    print("\n" + table(found, check.results))
    failed = [result["name"] for result in check.results if state(result) == "FAILED"]
    print(f"\nfailed: {', '.join(failed) or 'nothing'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
