"""fasttail's engines beside what a user could pick instead, on the same images in one run.

    python tools/bench_loaders.py --images DIR [--counts places-lt | FILE] [--json FILE]

Three scenarios, all RandomResizedCrop(224) + flip to uint8 batches, page cache warm, in turn for
`--rounds` rounds, each contender in its own process with as many threads or workers:

    plain   every image equally often (instance-balanced)
    tail    class-balanced draws of a long tail (`--counts`: images per class, a JSON list), the 10%
            of images in the smallest classes stored raw by fasttail; stock FFCV gets the same order
    large   the images enlarged to 1,600 px on the long side (JPEG, quality 90)

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
import zlib
from io import BytesIO
from pathlib import Path
from statistics import median, quantiles

import numpy as np

HERE = Path(__file__).parent
TARGETS = {
    "ffcv_vs_stock_ffcv": (1.8, True),
    "ffcv_vs_pil": (2.5, True),
    "ffcv_vs_limit": (0.8, True),
    "tail_vs_stock_ffcv": (2.8, True),
    "tail_vs_pil": (4.2, True),
    "large_vs_stock_ffcv": (3.0, True),
    "dali_vs_plain_dali": (0.95, True),
    "first_batch_s": (1.0, False),
}
OURS, LIMIT, PIL = "fasttail ffcv", "region decode alone", "PIL + torchvision + DataLoader"
STOCK, TV = "stock FFCV, same bytes", "torchvision decode + v2 + DataLoader"
SCENARIOS = {
    "plain": [
        OURS, "fasttail dali", "fasttail reference", LIMIT, PIL, TV, STOCK,
        "stock FFCV, own writer q90", "plain DALI, readers.file",
    ],
    "tail": [OURS, PIL, STOCK],
    "large": [OURS, LIMIT, PIL, STOCK],
}  # fmt: skip
LARGE_SIDE, LARGE_FILES, RAW_SHARE = 1600, 120, 0.1


def lay_out(work: Path, contents: list[bytes], made: dict, *, q90: bool) -> None:
    """Files, the part file with its table, and the .beton files of one scenario."""
    from fasttail.config import ConvertConfig
    from fasttail.datasets.base import FileImages, Index, SplitIndex
    from fasttail.shards.convert import convert

    folder = work / "files"
    folder.mkdir(parents=True)
    table = np.zeros((2, len(contents), 5), np.int64)
    with (work / "part.bin").open("wb") as part:
        for k, content in enumerate(contents):
            (folder / f"{k:05d}.jpg").write_bytes(content)
            pixels = decode(content)
            raws = [content, pixels.tobytes()] if any(made["raw"]) else [content]
            for mode, stored in enumerate(raws):
                where = part.tell(), len(stored), *pixels.shape[:2], zlib.crc32(stored)
                table[mode, k] = where
                part.write(stored)
    np.save(work / "table.npy", table)
    names = sorted(path.name for path in folder.iterdir())
    images = SplitIndex(FileImages(folder, names), np.arange(len(names)) % 2)
    third = (0.5, 0.5, 0.5)
    index = Index("bench", ("a", "b"), {"train": images}, third, third)
    convert(index, work / "shards", ConvertConfig(jobs=2))
    (work / "same.beton").symlink_to(work / "shards" / "train-00000.beton")
    if q90 and importlib.util.find_spec("ffcv"):
        subprocess.run([sys.executable, __file__, "--write-q90", str(work)], check=True)
    made["files"] = [str(folder / name) for name in names]
    (work / "setup.json").write_text(json.dumps(made))


def decode(content: bytes) -> np.ndarray:
    """Pixels of a JPEG file: the kernel's, which are what fasttail stores; without it Pillow's."""
    from PIL import Image

    from fasttail import kernels

    if kernels.available():
        return kernels.jpeg_decode(content)
    return np.array(Image.open(BytesIO(content)).convert("RGB"))


class _Pictures:
    """The files as FFCV's writer wants them."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        from PIL import Image

        return np.array(Image.open(self.paths[i]).convert("RGB")), i % 2


def write_q90(work: Path) -> None:
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    fields = {
        "image": RGBImageField(write_mode="jpg", jpeg_quality=90),
        "label": IntField(),
    }
    DatasetWriter(str(work / "q90.beton"), fields, num_workers=2).from_indexed_dataset(
        _Pictures(work / "files")
    )


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
        }
    return result


def ratio(result: dict[str, dict], ours: str, peer: str) -> float | None:
    """The median over the rounds of ours / peer: both ran one after the other."""
    if ours not in result or peer not in result:
        return None
    pairs = zip(result[ours]["rates"], result[peer]["rates"], strict=True)
    return median(a / b for a, b in pairs)


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


def first_batch_s(work: Path, runs: int) -> float | None:
    """Seconds from the end of imports to the first batch, each time in a new process; None where
    the engine ffcv can't run."""
    from fasttail.engines import ffcv

    if not ffcv.available():
        return None
    times = []
    for _ in range(runs):
        command = [sys.executable, "-c", FIRST_BATCH, str(HERE), str(work)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        times.append(float(done.stdout))
    return median(times)


def enlarge(content: bytes) -> bytes:
    from PIL import Image

    image = Image.open(BytesIO(content)).convert("RGB")
    scale = LARGE_SIDE / max(image.size)
    size = round(image.width * scale), round(image.height * scale)
    file = BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
    return file.getvalue()


def counts_of(name: str) -> list[int]:
    """Images per class of a file, or a long tail as long as Places-LT's (4,980 to 5, 62,500)."""
    if name != "places-lt":
        return json.loads(Path(name).read_text())
    made = 4980 * (5 / 4980) ** (np.arange(365) / 364)
    return [max(5, int(n)) for n in made * 62_500 / made.sum()]


def raw_classes(counts: list[int]) -> list[int]:
    """1 for the smallest classes that hold a tenth of the images."""
    raw, left = [0] * len(counts), RAW_SHARE * sum(counts)
    for c in sorted(range(len(counts)), key=counts.__getitem__):
        left -= counts[c]
        if left < 0:
            break
        raw[c] = 1
    return raw


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
    parser.add_argument("--write-q90", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write_q90:
        write_q90(args.write_q90)
        return
    paths = sorted(
        path for path in args.images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
    ) if args.images else []  # fmt: skip
    if not paths:
        parser.error("--images DIR must name a folder with JPEG files")
    contents = [path.read_bytes() for path in paths]
    counts = counts_of(args.counts)
    steps = args.draws // args.batch
    common = {"threads": args.threads, "batch": args.batch, "device": args.device}
    results, first = {}, None
    with tempfile.TemporaryDirectory(prefix="bench-loaders-") as folder:
        for name in args.only or SCENARIOS:
            work = Path(folder) / name
            if name == "plain":
                made = {"counts": [args.draws], "raw": [0], "balanced": False, "steps": steps}
                lay_out(work, contents, {**common, **made}, q90=True)
                first = first_batch_s(work, args.rounds)
            elif name == "tail":
                made = {"counts": counts, "raw": raw_classes(counts), "balanced": True}
                lay_out(work, contents, {**common, **made, "steps": steps}, q90=False)
            else:
                fewer = max(1, steps // 4)
                large = [enlarge(content) for content in contents[:LARGE_FILES]]
                made = {"counts": [fewer * args.batch], "raw": [0], "balanced": False}
                lay_out(work, large, {**common, **made, "steps": fewer}, q90=False)
            images = json.loads((work / "setup.json").read_text())["steps"] * args.batch
            results[name] = measure(SCENARIOS[name], work, images, args.rounds)
            show(name, results[name])
    plain, tail, large = (results.get(name, {}) for name in SCENARIOS)
    ratios = {
        "ffcv_vs_stock_ffcv": ratio(plain, OURS, STOCK),
        "ffcv_vs_pil": ratio(plain, OURS, PIL),
        "ffcv_vs_limit": ratio(plain, OURS, LIMIT),
        "tail_vs_stock_ffcv": ratio(tail, OURS, STOCK),
        "tail_vs_pil": ratio(tail, OURS, PIL),
        "large_vs_stock_ffcv": ratio(large, OURS, STOCK),
        "dali_vs_plain_dali": ratio(plain, "fasttail dali", "plain DALI, readers.file"),
        "first_batch_s": first,
    }
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
    print("\nratio                 measured   target")
    for key, value in ratios.items():
        if value is not None:
            target, more = TARGETS[key]
            met = "" if (value >= target) == more or value == target else "   MISSED"
            print(f"{key:<22}{value:>8.2f}   {'>=' if more else '<='} {target}{met}")
    print("\n" + "\n".join(f"{key}: {value}" for key, value in conditions.items()))
    if args.json:
        figures = {"ratios": ratios, "scenarios": results, "conditions": conditions}
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
    for name in [*names, "numpy", "numba"]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
