"""Training input from an object store beside the same from a local folder, in one run.

    python tools/bench_stores.py --images DIR --json stores.json

Shards of the images in DIR go into a bucket of an S3 server on this machine (moto's), and `Loader`
reads them from there into an empty cache. Reported:

    s3_train_vs_local   images/s of an epoch from the cache against the local folder's: in turn,
                        medians
    fetch_mb_per_s      the first epoch of a new cache: bytes that came by its seconds
    s3_open_ms          opening shards whose files are in the cache; what is asked of the store is
                        dataset.json
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _product

from fasttail import Loader, open_shards

CLASSES = 20
URL = "s3://bucket/shards"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def upload(folder: Path) -> None:
    """Puts the files below a folder into the bucket."""
    import boto3

    client: Any = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "bucket", f"shards/{path.relative_to(folder)}")


def epoch_s(loader: Loader) -> float:
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def measure(local: Path, args: argparse.Namespace) -> dict[str, list[float]]:
    def loader(place: Path | str) -> Loader:
        return Loader(
            place, sampler="class", batch_size=64, px=args.px, epochs=9, threads=args.threads
        )

    images = {}
    with loader(URL) as cached, loader(local) as plain:
        first_s = epoch_s(cached)
        epoch_s(plain)
        came = sum(path.stat().st_size for path in open_shards(URL).dir.rglob("*"))
        for _ in range(args.rounds):
            for name, one in (("local", plain), ("cached", cached)):
                images.setdefault(name, []).append(len(one) * 64 / epoch_s(one))
    opens_ms = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        _ = open_shards(URL).split("train").labels_N
        opens_ms.append((time.perf_counter() - start) * 1e3)
    pairs = zip(images["cached"], images["local"], strict=True)
    return {
        "s3_train_vs_local": [cached / local for cached, local in pairs],
        "fetch_mb_per_s": [came / 1e6 / first_s],
        "s3_open_ms": opens_ms,
        "local, images/s": images["local"],
        "cached, images/s": images["cached"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Input from an object store beside local shards.")
    parser.add_argument("--images", type=Path, required=True, help="a folder of JPEGs")
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as taken:
        scratch, port = Path(name), taken.getsockname()[1]
        taken.close()
        local = _product.shards_of_files(args.images, args.samples, CLASSES, scratch / "shards")
        os.environ |= ENVIRONMENT | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "FASTTAIL_CACHE": str(scratch / "cache"),
        }
        command = [sys.executable, "-m", "moto.server", "--port", str(port)]
        quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, **quiet) as server:
            try:
                while server.poll() is None and not answers(port):
                    time.sleep(0.1)
                upload(local)
                values = measure(local, args)
            finally:
                server.kill()
    conditions = {
        "samples": args.samples,
        "px": args.px,
        "threads": args.threads,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": os.getloadavg()[0],
    }
    print("  ".join(f"{name}: {value}" for name, value in conditions.items()))
    for name, runs in values.items():
        print(f"{name:20}{statistics.median(runs):10.4g}   {min(runs):.4g} .. {max(runs):.4g}")
    if args.json:
        ratios = {name: statistics.median(runs) for name, runs in values.items()}
        report = {"ratios": ratios, "runs": values, "conditions": conditions}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
