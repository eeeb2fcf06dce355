"""What bench_loaders.py lays out for a scenario: the files, shards of them, what the peers read.

setup.json     the scenario (`_loaders.Setup`)
files/         the JPEG files, as they are
shards/        the same, converted: sample k is file k
kept/          of progressive files: shards that keep them so
stock.beton    the very bytes of the files, for stock FFCV
q90.beton      the files as FFCV's own writer makes them, at quality 90
planes.bin     the files decoded (planes.npy: where each lies), for what is kept decoded
"""

import json
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

LARGE_SIDE, RAW_SHARE = 1600, 0.1


def lay_out(work: Path, contents: list[bytes], made: dict) -> None:
    """`contents` are JPEG files, `made` becomes setup.json."""
    from fasttail import kernels

    folder = work / "files"
    folder.mkdir(parents=True)
    for k, content in enumerate(contents):
        (folder / f"{k:05d}.jpg").write_bytes(content)
    shards = work / "shards"
    _convert(folder, shards)
    stock = shards
    if made["progressive"]:
        stock = work / "kept"
        _convert(folder, stock, progressive="keep")
    (work / "stock.beton").symlink_to(stock / "train-00000.beton")
    if any(made["raw"]) and kernels.available():
        _keep_decoded(work, contents)
    made["files"] = [str(path) for path in sorted(folder.iterdir())]
    (work / "setup.json").write_text(json.dumps(made))


def _convert(folder: Path, out: Path, **options: object) -> None:
    from fasttail.config import ConvertConfig
    from fasttail.datasets.base import FileImages, Index, SplitIndex
    from fasttail.shards.convert import convert

    names = sorted(path.name for path in folder.iterdir())
    images = SplitIndex(FileImages(folder, names), np.arange(len(names)) % 2)
    third = (0.5, 0.5, 0.5)
    index = Index("bench", ("a", "b"), {"train": images}, third, third)
    convert(index, out, ConvertConfig.model_validate({"jobs": 2, **options}))


def _keep_decoded(work: Path, contents: list[bytes]) -> None:
    from fasttail import kernels

    rows = []
    with (work / "planes.bin").open("wb") as file:
        for content in contents:
            planes = kernels.jpeg_planes(content)
            rows.append((file.tell(), len(planes), zlib.crc32(planes.data)))
            file.write(planes.data)
    np.save(work / "planes.npy", np.array(rows, np.int64))


class _Pictures:
    """The files as FFCV's writer wants them."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
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


def q90(work: Path) -> None:
    """`write_q90` in a process of its own: FFCV's writer starts others."""
    subprocess.run([sys.executable, __file__, str(work)], check=True)


def enlarged(content: bytes) -> bytes:
    """1,600 px on the long side, quality 90."""
    image = Image.open(BytesIO(content)).convert("RGB")
    scale = LARGE_SIDE / max(image.size)
    size = round(image.width * scale), round(image.height * scale)
    file = BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
    return file.getvalue()


def progressive(content: bytes) -> bytes:
    """Encoded again with the same tables and sampling, progressively."""
    image = Image.open(BytesIO(content))
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    file = BytesIO()
    same = {"quality": "keep"} if image.format == "JPEG" else {"quality": 90}
    image.save(file, "JPEG", progressive=True, **same)
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


if __name__ == "__main__":
    write_q90(Path(sys.argv[1]))
