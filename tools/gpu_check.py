"""What only a machine with an NVIDIA GPU can show: the `gpu` tests and the loaders' benchmark.

    python tools/gpu_check.py [--images DIR] [--json FILE]

Needs no network. What is not installed is skipped, and said so. Exit code 0: all that ran passed;
1: something failed; 2: there is no GPU to check.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TAIL = 4000  # characters of a step's output that are kept


def installed(*packages: str) -> bool:
    """Whether these can be imported."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


def step(name: str, command: Sequence[str]) -> dict[str, Any]:
    """Runs a command and shows what it prints; what came of it."""
    print(f"\n== {name}: {' '.join(command)}", flush=True)
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    output = (done.stdout + done.stderr)[-TAIL:]
    print(output, flush=True)
    return {
        "name": name,
        "rc": done.returncode,
        "wall_s": time.perf_counter() - start,
        "output": output,
    }


def skipped(name: str, why: str) -> dict[str, Any]:
    """A step that can't be run here."""
    print(f"\n== {name}: skipped: {why}", flush=True)
    return {"name": name, "rc": None, "skipped": why}


def steps(images: Path | None, scratch: Path) -> list[dict[str, Any]]:
    """Everything, in turn."""
    results = [step("kernel", [sys.executable, "-m", "fasttail.kernels.build"])]
    if installed("pytest"):
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
        results.append(step("gpu tests", command))
    else:
        results.append(skipped("gpu tests", "pytest is not installed"))
    if images is None:
        results.append(skipped("loaders", "no --images DIR"))
    elif not installed("psutil"):
        results.append(skipped("loaders", "psutil is not installed"))
    else:
        figures = scratch / "loaders.json"
        command = [sys.executable, "tools/bench_loaders.py", "--device", "cuda"]
        command += ["--images", str(images), "--json", str(figures)]
        done = step("loaders", command)
        if figures.exists():
            done["figures"] = json.loads(figures.read_text())
        results.append(done)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, help="a folder of JPEG files, searched recursively")
    parser.add_argument("--json", type=Path, help="write what was found here")
    args = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("gpu_check: torch finds no NVIDIA GPU here: nothing to check", file=sys.stderr)
        sys.exit(2)
    conditions = {
        "gpu": torch.cuda.get_device_name(0),
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }
    print(json.dumps(conditions, indent=1))
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        images = args.images.resolve() if args.images else None
        results = steps(images, Path(scratch))
    failed = [result["name"] for result in results if result["rc"] not in (0, None)]
    print(f"\nfailed: {', '.join(failed) or 'nothing'}")
    if args.json:
        found = {"conditions": conditions, "steps": results}
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
