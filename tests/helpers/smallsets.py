"""Small sources for every data set, made on the spot."""

import csv
import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

COUNTS = {"ant": 6, "bee": 4, "cat": 2}


def image_bytes(seed: int, form: str = "JPEG", side: int = 12) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 3, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


def write_images(root: Path, paths: list[str]) -> None:
    for seed, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(image_bytes(seed))


def folder(root: Path) -> Path:
    train = [f"train/{name}/{i}.jpg" for name, n in COUNTS.items() for i in range(n)]
    test = [f"test/{name}/t{i}.jpg" for name in COUNTS for i in range(2)]
    write_images(root, train + test)
    return root


def listed(root: Path, split: str, prefix: str = "") -> list[tuple[str, int]]:
    counts = COUNTS.values() if split == "train" else [2] * len(COUNTS)
    return [
        (f"{prefix}{name}/{split}{i}.jpg", label)
        for label, (name, n) in enumerate(zip(COUNTS, counts, strict=True))
        for i in range(n)
    ]


def lists(root: Path, stem: str = "", prefix: str = "") -> Path:
    for split in ("train", "val", "test"):
        lines = listed(root, split, prefix)
        write_images(root, [path for path, _ in lines])
        text = "".join(f"{path} {label}\n" for path, label in lines)
        (root / f"{stem}{split}.txt").write_text(text)
    return root


def table(root: Path, form: str) -> Path:
    for split in ("train", "test"):
        lines = listed(root, split)
        write_images(root, [path for path, _ in lines])
        rows = [(path, tuple(COUNTS)[label]) for path, label in lines]
        if form == "csv":
            with (root / f"{split}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([("path", "label"), *rows])
        else:
            import pyarrow as pa
            from pyarrow import parquet

            columns = {"path": [r[0] for r in rows], "label": [r[1] for r in rows]}
            parquet.write_table(pa.table(columns), root / f"{split}.parquet")
    return root


def tars(root: Path) -> Path:
    for split in ("train", "test"):
        with tarfile.open(root / f"{split}-0000.tar", "w") as tar:
            for number, (_, label) in enumerate(listed(root, split)):
                add(tar, f"{number:04d}.jpg", image_bytes(number))
                add(tar, f"{number:04d}.cls", str(label).encode())
    return root


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def inat(root: Path) -> Path:
    for split in ("train", "val"):
        lines = listed(root, split, "train_val2018/")
        write_images(root, [path for path, _ in lines])
        content = {
            "info": {"year": 2018},
            "images": [{"id": 7 * i, "file_name": p, "width": 1} for i, (p, _) in enumerate(lines)],
            "annotations": [
                {"id": i, "image_id": 7 * i, "category_id": c} for i, (_, c) in enumerate(lines)
            ],
            "categories": [{"id": c, "name": name} for c, name in enumerate(COUNTS)],
        }
        (root / f"{split}2018.json").write_text(json.dumps(content))
    return root


def cifar10(root: Path, per_class: int = 20) -> Path:
    """CIFAR-10's python files, as Python 2 wrote them: protocol 2, keys of bytes."""
    home = root / "cifar-10-batches-py"
    home.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        n = per_class * 2
        content = {
            b"batch_label": b"some batch",
            b"labels": [int(c) for c in np.arange(n) % 10],
            b"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
            b"filenames": [b"x.png"] * n,
        }
        (home / name).write_bytes(pickle.dumps(content, protocol=2))
    names = {b"label_names": [b"class%d" % c for c in range(10)], b"num_vis": 3072}
    (home / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))
    return root


def cifar100(root: Path) -> Path:
    home = root / "cifar-100-python"
    home.mkdir(parents=True)
    for name, n in (("train", 1000), ("test", 200)):
        content = {
            b"fine_labels": [int(c) for c in np.arange(n) % 100],
            b"coarse_labels": [0] * n,
            b"data": np.zeros((n, 3072), np.uint8) + np.arange(n, dtype=np.uint8)[:, None],
        }
        (home / name).write_bytes(pickle.dumps(content, protocol=2))
    names = {b"fine_label_names": [b"f%d" % c for c in range(100)]}
    (home / "meta").write_bytes(pickle.dumps(names, protocol=2))
    return root
