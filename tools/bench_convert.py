"""Converting, against FFCV's own writer and against `cp`, on the same files in one run.

    python tools/bench_convert.py --images DIR [--json FILE]

The images under DIR (found recursively, JPEG only) are copied into a work folder `--repeat` times
and read before every step, so that the page cache is warm for everybody. Then, each in a fresh
process, in turn, `--rounds` times: `convert` with `--check header`, `cp -r`, `convert` with
`--check decode`, and FFCV's `DatasetWriter` (jpg mode, as many workers). Everything ends with an
fsync (cp: `sync -f`); imports do not count, the start of worker processes does. Rates are of
everybody's best round, since what else the machine does can only add time; the table and the JSON
have every round. Then the same with and without a seek index, at several spacings (`--only-seek`:
nothing else).
"""

import argparse
import dataclasses
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Event, Thread

import _seek_cost
import numpy as np

# Key -> the target, and whether more is better.
TARGETS = {
    "decode_vs_ffcv_writer": (3.0, True),
    "header_vs_ffcv_writer": (10.0, True),
    "header_vs_cp": (0.5, True),
    "peak_rss_mib": (1024.0, False),
    "index_1e7_s": (60.0, False),
    "seek_bytes_share": (0.015, False),
    "convert_slowdown": (1.1, False),
}
ENTRIES, CLASSES = 10_000_000, 8142
INDEX_LIMIT_MIB = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=Path, help="a folder of JPEG files")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--repeat", type=int, default=20, help="copies of every image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--work", type=Path, help="where to write [default: a temporary folder]")
    parser.add_argument("--only-seek", action="store_true", help="only what a seek index costs")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(json.dumps(STEPS[args.step[0]](Path(args.step[1]), args.jobs)))
        return
    if args.images is None:
        parser.error("--images DIR is needed")
    with tempfile.TemporaryDirectory(dir=args.work, prefix="bench-convert-") as work:
        result = bench(args, Path(work))
    show(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def bench(args: argparse.Namespace, work: Path) -> dict:
    files, size = lay_out(args.images, work / "images" / "train" / "all", args.repeat)
    warm(work)
    seek = _seek_cost.measure(work, args.jobs, args.rounds)
    peers = {} if args.only_seek else against_peers(args, work, files)
    return {
        **peers,
        "ratios": {**peers.get("ratios", {}), **seek.pop("ratios")},
        "seek": seek,
        "conditions": {
            "images": files,
            "bytes": size,
            "jobs": args.jobs,
            "rounds": args.rounds,
            "machine": f"{cpu()}, {os.cpu_count()} cores, {platform.platform()}",
            "python": platform.python_version(),
            "command": " ".join(sys.argv),
            "versions": versions(),
        },
    }


def against_peers(args: argparse.Namespace, work: Path, files: int) -> dict:
    times: dict[str, list[float]] = {"header": [], "cp": [], "decode": [], "ffcv": []}
    peaks = []
    for _ in range(args.rounds):
        for what in times:
            warm(work)  # each time: the system may have thought the pages idle
            if what == "cp":
                times[what].append(run_cp(work))
            else:
                seconds, peak = run_step(what, work, args.jobs)
                times[what].append(seconds)
                if what != "ffcv":
                    peaks.append(peak)
    index_s, index_mib = index_step(work, args.jobs)
    rate = {what: files / min(seconds) for what, seconds in times.items()}
    return {
        "ratios": {
            "decode_vs_ffcv_writer": rate["decode"] / rate["ffcv"],
            "header_vs_ffcv_writer": rate["header"] / rate["ffcv"],
            "header_vs_cp": rate["header"] / rate["cp"],
            "peak_rss_mib": max(peaks),
            "index_1e7_s": index_s,
        },
        "images_per_s": rate,
        "seconds": times,
        "index_peak_rss_mib": index_mib,
    }


def lay_out(images: Path, target: Path, repeat: int) -> tuple[int, int]:
    """Copies the JPEGs under `images` `repeat` times; (files, bytes)."""
    sources = sorted(p for p in images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not sources:
        sys.exit(f"{images} has no JPEG files")
    target.mkdir(parents=True)
    size = 0
    for number in range(repeat):
        for k, source in enumerate(sources):
            content = source.read_bytes()
            size += len(content)
            (target / f"{number:03d}-{k:06d}.jpg").write_bytes(content)
    os.sync()
    return len(sources) * repeat, size


def warm(work: Path) -> None:
    for path in (work / "images").rglob("*.jpg"):
        path.read_bytes()


def run_step(what: str, work: Path, jobs: int) -> tuple[float, float]:
    """Runs a step in a fresh process: (seconds, peak MiB of it and all of its children)."""
    out = work / what
    command = [sys.executable, __file__, "--jobs", str(jobs), "--step", what, str(work)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = Peak(process.pid)
        printed, _ = process.communicate()
    if process.returncode:
        sys.exit(f"step {what} failed")
    shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
    return float(json.loads(printed.splitlines()[-1])), peak.end()


class Peak(Thread):
    """Samples the resident memory of a process and its descendants, 50 times a second.

    Pages that several processes share are counted for each: the sum is an upper bound.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.pages, self.stop = pid, 0, Event()
        self.start()

    def run(self) -> None:
        while not self.stop.wait(0.02):
            self.pages = max(self.pages, sum(map(resident, family(self.pid))))

    def end(self) -> float:
        self.stop.set()
        self.join()
        return self.pages * resource.getpagesize() / 2**20


def family(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return [pid]
    return [pid, *(p for child in text.split() for p in family(int(child)))]


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0


def run_cp(work: Path) -> float:
    start = time.monotonic()
    subprocess.run(["cp", "-r", work / "images", work / "cp"], check=True)
    subprocess.run(["sync", "-f", work / "cp"], check=True)
    seconds = time.monotonic() - start
    shutil.rmtree(work / "cp")
    return seconds


def index_step(work: Path, jobs: int) -> tuple[float, float]:
    command = [sys.executable, __file__, "--jobs", str(jobs), "--step", "index", str(work)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, mib = json.loads(printed.splitlines()[-1])
    shutil.rmtree(work / "index")
    if mib > INDEX_LIMIT_MIB:
        sys.exit(f"the table of {ENTRIES:,} entries took {mib:.0f} MiB, limit {INDEX_LIMIT_MIB}")
    return seconds, mib


def convert_step(check: str, work: Path, jobs: int) -> float:
    from fasttail import datasets
    from fasttail.config import ConvertConfig
    from fasttail.shards.convert import convert

    cfg = ConvertConfig.model_validate({"check": check, "jobs": jobs, "val_fraction": 0})
    start = time.monotonic()
    index = datasets.index("folder", work / "images", cfg)
    # As for the published data sets, whose mean and std are known: for a folder they would be
    # measured on 2,048 decoded images, whatever its size.
    half = (0.5, 0.5, 0.5)
    convert(dataclasses.replace(index, mean=half, std=half), work / check, cfg)
    return time.monotonic() - start


def ffcv_step(work: Path, jobs: int) -> float:
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter
    from PIL import Image

    paths = sorted((work / "images").rglob("*.jpg"))

    class Folder:
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, i: int) -> tuple:
            return Image.open(paths[i]).convert("RGB"), 0

    target = work / "ffcv"
    fields = {"image": RGBImageField(write_mode="jpg"), "label": IntField()}
    start = time.monotonic()
    DatasetWriter(str(target), fields, num_workers=jobs).from_indexed_dataset(Folder())
    fd = os.open(target, os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    return time.monotonic() - start


def table_step(work: Path, jobs: int) -> list[float]:
    """[seconds, peak MiB] of writing the class-index table of made-up entries."""
    from fasttail.shards import table

    rng = np.random.default_rng(0)
    n = ENTRIES
    sizes = rng.integers(20_000, 200_000, n)
    text = b"train_val2018/Plantae/7477/3b60c9486db1d2ee875f11a669fbde4a.jpg"
    columns = {
        "labels": rng.integers(0, CLASSES, n, dtype=np.int32),
        "heights": np.full(n, 600, np.int32),
        "widths": np.full(n, 800, np.int32),
        "modes": np.zeros(n, np.uint8),
        "parts": np.zeros(n, np.int32),
        "offsets": np.cumsum(sizes) - sizes,
        "sizes": sizes,
        "crc32": rng.integers(0, 2**32, n, dtype=np.uint32),
        "names": np.frombuffer(text * n, np.uint8),
        "name_starts": np.arange(n + 1) * len(text),
    }
    start = time.monotonic()
    lengths = {name: len(column) for name, column in columns.items()}
    table.write(work / "index", [columns], lengths, CLASSES)
    seconds = time.monotonic() - start
    return [seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]


STEPS = {
    "header": lambda work, jobs: convert_step("header", work, jobs),
    "decode": lambda work, jobs: convert_step("decode", work, jobs),
    "ffcv": ffcv_step,
    "index": table_step,
}


def show(result: dict) -> None:
    conditions = result["conditions"]
    images, size = conditions["images"], conditions["bytes"] / 1e6
    print(f"{images:,} JPEGs, {size:,.0f} MB, {conditions['jobs']} workers", end=", ")
    print(f"{conditions['rounds']} rounds\n{conditions['machine']}\n{conditions['versions']}\n")
    if "seconds" in result:
        print(f"{'':10}{'images/s':>12}{'MB/s':>9}   seconds")
        for what, rate in result["images_per_s"].items():
            seconds = ", ".join(f"{s:.2f}" for s in result["seconds"][what])
            print(f"{what:10}{rate:12,.0f}{rate * size / images:9,.0f}   {seconds}")
        print(f"table of {ENTRIES:,} entries: peak {result['index_peak_rss_mib']:,.0f} MiB\n")
    _seek_cost.show(result["seek"])
    print(f"\n{'':24}{'value':>10}  target")
    for key, value in result["ratios"].items():
        target, more = TARGETS[key]
        ok = value >= target if more else value <= target
        print(
            f"{key:24}{value:10.3f}  {'>=' if more else '<='} {target:g}{'' if ok else '   MISSED'}"
        )


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "?")


def versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("fasttail", "ffcv", "pillow", "numpy"))


if __name__ == "__main__":
    main()
