"""fasttail's engines beside what a user could pick instead, on the same images in one run.

    python tools/bench_loaders.py --images DIR [--counts places-lt | FILE] [--json FILE]

Four scenarios, all RandomResizedCrop(224) + flip to uint8 batches, page cache warm, in turn for
`--rounds` rounds, each contender in its own process with as many threads or workers:

    plain        every image equally often (instance-balanced)
    tail         class-balanced draws of a long tail (`--counts`: images per class, a JSON list),
                 the 10% of images in the smallest classes kept decoded by fasttail; stock FFCV gets
                 the same order
    large        the images enlarged to 1,600 px on the long side (JPEG, quality 90)
    progressive  the images encoded again progressively: converted by fasttail, read as they are by
                 the others

The first epoch of each contender does not count (it compiles, checks checksums, fills caches). The
table shows medians and the spread (half of the interquartile range) of images per second, CPU
seconds per 1,000 images, peak memory. `--json` holds `ratios` under the keys of TARGETS.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import _layout

HERE = Path(__file__).parent
# What must be reached, and whether more is better.
TARGETS = {
    "ffcv_vs_limit": (2.6, True),
    "ffcv_vs_stock_ffcv": (5.0, True),
    "ffcv_vs_pil": (6.0, True),
    "tail_vs_stock_ffcv": (7.0, True),
    "tail_vs_pil": (8.0, True),
    "large_vs_stock_ffcv": (6.0, True),
    "progressive_vs_stock_ffcv": (8.0, True),
    "turboloader_ratio": (4.0, True),
    "dali_vs_plain_dali": (0.95, True),
    "first_batch_s": (1.0, False),
}
OURS, LIMIT = "fasttail ffcv", "libjpeg-turbo's region decode alone"
PIL, STOCK, TURBO = "PIL + torchvision + DataLoader", "stock FFCV, same bytes", "TurboLoader"
SCENARIOS = {
    "plain": [
        OURS, "fasttail dali", "fasttail reference", LIMIT, PIL,
        "torchvision decode + v2 + DataLoader", STOCK, "stock FFCV, own writer q90",
        "plain DALI, readers.file", "SPDL", TURBO, "LitData",
    ],
    "tail": [OURS, PIL, STOCK],
    "large": [OURS, LIMIT, PIL, STOCK],
    "progressive": [OURS, PIL, STOCK],
}  # fmt: skip
LARGE_FILES = 120


class Contender:
    """One contender's process."""

    def __init__(self, name: str, work: Path) -> None:
        self.name = name
        self.rounds: list[dict[str, float]] = []
        self._said = tempfile.TemporaryFile("w+", errors="backslashreplace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "_loaders.py"), name, str(work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def epoch(self) -> dict[str, float] | None:
        """Runs one; None if the contender is not installed or fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("epoch\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self._process.stdout.readline()
        # Other libraries talk on standard output too.
        while line and not line.startswith("{"):
            line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def why_not(self) -> str:
        """Of one that gave no figures: not installed, or what it died of."""
        code = self._process.wait()
        self._said.seek(0)
        last = ([line for line in self._said if line.strip()] or [""])[-1].strip()
        missing = re.search(r"No module named|not installed|which is not|needs ", last)
        return f"not here: {last}" if missing else f"FAILED with exit code {code}: {last}"

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()  # closes its pipes
        self._said.close()


def measure(names: list[str], work: Path, images: int, rounds: int) -> dict[str, dict]:
    """Every contender's figures, in turn."""
    contenders = [Contender(name, work) for name in names]
    alive = [one for one in contenders if one.epoch() is not None]
    for one in contenders:
        if one not in alive:
            print(f"  {one.name}: {one.why_not()}", file=sys.stderr)
    for _ in range(rounds):
        for one in alive:
            figures = one.epoch()
            assert figures is not None, one.name
            one.rounds.append(figures)
    for one in contenders:
        one.end()
    result = {}
    for one in alive:
        rates = [images / figures["wall_s"] for figures in one.rounds]
        low, _, high = quantiles(rates, n=4) if len(rates) > 1 else (rates[0],) * 3
        result[one.name] = {
            "images_per_s": median(rates),
            "spread": (high - low) / 2,
            "cpu_s_per_1000": median(f["cpu_s"] for f in one.rounds) / images * 1000,
            "peak_mib": one.rounds[-1]["peak_mib"],
            "rates": rates,
            "cpu_s": [figures["cpu_s"] for figures in one.rounds],
        }
    return result


def ratio(
    result: dict[str, dict], one: str, other: str, of: str = "rates"
) -> tuple[float, float] | None:
    """The median over the rounds of one / other, which ran one after the other, and the spread
    (half of the interquartile range)."""
    if one not in result or other not in result:
        return None
    ratios = [a / b for a, b in zip(result[one][of], result[other][of], strict=True)]
    low, middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    return middle, (high - low) / 2


FIRST_BATCH = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch, _loaders, fasttail.engines.ffcv, fasttail.plan
start = time.perf_counter()
setup = _loaders.Setup(Path(sys.argv[2]))
next(_loaders.fasttail_engine("ffcv")(setup)(0))
print(time.perf_counter() - start)
"""


def first_batch_s(work: Path, runs: int) -> tuple[float, float] | None:
    """Seconds from the end of imports to the first batch, each time in a new process: median and
    spread; None where the engine ffcv can't run."""
    from fasttail.engines import ffcv

    if not ffcv.available():
        return None
    times = []
    for _ in range(runs):
        command = [sys.executable, "-c", FIRST_BATCH, str(HERE), str(work)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        times.append(float(done.stdout))
    return median(times), (max(times) - min(times)) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=Path, help="a folder of JPEG files, searched recursively")
    parser.add_argument("--counts", default="places-lt", help="images per class: a JSON list")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--draws", type=int, default=1280, help="images of an epoch")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where fasttail's engines and plain DALI put their batches",
    )
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="only this scenario")
    args = parser.parse_args()
    paths = sorted(
        path for path in args.images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
    ) if args.images else []  # fmt: skip
    if not paths:
        parser.error("--images DIR must name a folder with JPEG files")
    contents = [path.read_bytes() for path in paths]
    counts = _layout.counts_of(args.counts)
    steps = args.draws // args.batch
    common = {"threads": args.threads, "batch": args.batch, "device": args.device}
    results, first = {}, None
    with tempfile.TemporaryDirectory(prefix="bench-loaders-") as folder:
        for name in args.only or SCENARIOS:
            work = Path(folder) / name
            made = {"counts": [args.draws], "raw": [0], "balanced": False, "steps": steps}
            shown = contents
            if name == "tail":
                made |= {"counts": counts, "raw": _layout.raw_classes(counts), "balanced": True}
            elif name == "large":
                shown = [_layout.enlarged(content) for content in contents[:LARGE_FILES]]
                fewer = max(1, steps // 4)
                made |= {"counts": [fewer * args.batch], "steps": fewer}
            elif name == "progressive":
                shown = [_layout.progressive(content) for content in contents]
            made["progressive"] = name == "progressive"
            _layout.lay_out(work, shown, {**common, **made})
            if name == "plain":
                first = first_batch_s(work, args.rounds)
                if importlib.util.find_spec("ffcv"):
                    _layout.q90(work)
            images = json.loads((work / "setup.json").read_text())["steps"] * args.batch
            results[name] = measure(SCENARIOS[name], work, images, args.rounds)
            show(name, results[name])
    plain, tail, large, progressive = (results.get(name, {}) for name in SCENARIOS)
    found = {
        "ffcv_vs_limit": ratio(plain, OURS, LIMIT),
        "ffcv_vs_stock_ffcv": ratio(plain, OURS, STOCK),
        "ffcv_vs_pil": ratio(plain, OURS, PIL),
        "tail_vs_stock_ffcv": ratio(tail, OURS, STOCK),
        "tail_vs_pil": ratio(tail, OURS, PIL),
        "large_vs_stock_ffcv": ratio(large, OURS, STOCK),
        "progressive_vs_stock_ffcv": ratio(progressive, OURS, STOCK),
        "turboloader_ratio": ratio(plain, TURBO, OURS, of="cpu_s"),
        "dali_vs_plain_dali": ratio(plain, "fasttail dali", "plain DALI, readers.file"),
        "first_batch_s": first,
    }
    ratios = {key: value and value[0] for key, value in found.items()}
    spreads = {key: value and value[1] for key, value in found.items()}
    conditions = {
        "command": " ".join(sys.argv),
        "machine": f"{cpu()}, {len(os.sched_getaffinity(0))} cores, {platform.platform()}",
        "versions": versions(),
        "images": len(paths),
        "bytes_median": median(map(len, contents)),
        "device": args.device,
        "threads": args.threads,
        "batch": args.batch,
        "draws": args.draws,
        "rounds": args.rounds,
        "load_before": os.getloadavg()[0],
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }
    print("\nratio                       measured   spread   target")
    for key, value in ratios.items():
        if value is not None:
            target, more = TARGETS[key]
            met = "" if (value >= target) == more or value == target else "   MISSED"
            sign = ">=" if more else "<="
            print(f"{key:<28}{value:>8.2f}{spreads[key]:>9.2f}   {sign} {target}{met}")
    print("\n" + "\n".join(f"{key}: {value}" for key, value in conditions.items()))
    if args.json:
        figures = {
            "ratios": ratios,
            "spreads": spreads,
            "scenarios": results,
            "conditions": conditions,
        }
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


def show(name: str, result: dict[str, dict]) -> None:
    print(f"\n{name:<38}images/s   spread   CPU s/1000   peak MiB")
    for contender, figures in sorted(result.items(), key=lambda item: -item[1]["images_per_s"]):
        print(
            f"{contender:<38}{figures['images_per_s']:>8.0f}{figures['spread']:>9.0f}"
            f"{figures['cpu_s_per_1000']:>13.2f}{figures['peak_mib']:>11.0f}",
            flush=True,
        )


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    names = ["torch", "torchvision", "pillow", "ffcv", "nvidia-dali-cuda120", "nvidia-dali-cuda130"]
    names += ["spdl", "turboloader", "litdata", "numpy", "numba"]
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
