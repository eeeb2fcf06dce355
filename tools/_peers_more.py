"""More loaders that a user could pick: none is needed, and who is not installed is named.

As in `_peers.py`, each makes batches by RandomResizedCrop and a random flip, endlessly many epochs.
TurboLoader has no weighted draws, and no batches other than float32.
"""

import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _peers import Epoch, Job

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def spdl(job: Job) -> Epoch:
    """Meta's SPDL: FFmpeg's decoder and filters in a pipeline of threads."""
    import spdl.io
    import spdl.pipeline
    import torch
    from torchvision.transforms import RandomResizedCrop

    spdl.io.demux_image(job.files[0])  # FFmpeg's libraries are looked for when they are needed

    def load(path: Path) -> Any:
        packets = spdl.io.demux_image(path)
        whole = torch.empty(3, packets.height, packets.width, device="meta")
        top, left, height, width = RandomResizedCrop.get_params(whole, list(SCALE), list(RATIO))
        flip = "hflip," if torch.rand(()) < 0.5 else ""
        change = (
            f"crop={width}:{height}:{left}:{top}:exact=1,scale={job.px}:{job.px}:flags=bilinear"
        )
        return spdl.io.decode_packets(packets, filter_desc=f"{change},{flip}format=pix_fmts=rgb24")

    def batch(frames: list[Any]) -> np.ndarray:
        return spdl.io.to_numpy(spdl.io.convert_frames(frames))

    def epoch(number: int) -> Iterator[Any]:
        pipeline = (
            spdl.pipeline.PipelineBuilder()
            .add_source([job.files[k] for k in _drawn(job, number)])
            .pipe(load, concurrency=job.threads)
            .aggregate(job.batch)
            .pipe(batch)
            .add_sink(2)
            .build(num_threads=job.threads)
        )
        with pipeline.auto_stop():
            yield from pipeline

    return epoch


def turboloader(job: Job) -> Epoch:
    """TurboLoader: its fused crop, resize and flip over a tar."""
    import turboloader

    tar = job.work / "turboloader.tar"
    with tarfile.open(tar, "w") as file:
        for k, drawn in enumerate(_drawn(job, 0)):
            file.add(job.files[drawn], f"{k:07d}.jpg")
    loader = turboloader.DataLoader(
        str(tar),
        batch_size=job.batch,
        num_workers=job.threads,
        shuffle=True,
        image_size=job.px,
        output_format="numpy",
        train_aug=True,
        antialias=True,
    )

    def epoch(number: int) -> Iterator[Any]:
        loader.set_epoch(number)
        yield from loader

    return epoch


def litdata(job: Job) -> Epoch:
    """LitData's streaming chunks of the files, torchvision's decoder and transforms."""
    from litdata import StreamingDataLoader, StreamingDataset, optimize
    from torchvision.transforms import v2

    folder = str(job.work / "litdata")
    paths = [str(job.files[k]) for k in _drawn(job, 0)]
    optimize(
        _read,
        paths,
        output_dir=folder,
        chunk_bytes="64MB",
        num_workers=1,
        verbose=False,
    )
    change = v2.Compose([v2.RandomResizedCrop(job.px, antialias=True), v2.RandomHorizontalFlip()])
    data = StreamingDataset(folder, shuffle=True, transform=partial(_decoded, change))
    loader: Any = StreamingDataLoader(
        data, batch_size=job.batch, num_workers=job.threads, persistent_workers=True
    )

    return lambda epoch: iter(loader)


def _drawn(job: Job, epoch: int) -> np.ndarray:
    """Which files an epoch shows."""
    rng = np.random.default_rng(epoch)
    p_N = None if job.weights_N is None else job.weights_N / job.weights_N.sum()
    return job.image_N[rng.choice(len(job.image_N), job.steps * job.batch, p=p_N)]


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _decoded(change: Any, content: bytes) -> Any:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    read = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return change(decode_jpeg(read, mode=ImageReadMode.RGB))
