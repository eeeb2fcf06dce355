"""What a user could load images with instead of fasttail: each makes uint8 batches by
RandomResizedCrop and a random flip, endlessly many epochs of them.

A `Job` says what to load. `_loaders.py` measures them alone, `bench_train.py` with a model behind.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Epoch = Callable[[int], Iterator[Any]]  # epoch number -> batches


@dataclass(frozen=True)
class Job:
    """`steps` batches of `batch` images an epoch, out of samples that show `files[image_N]`.

    `weights_N` makes the draws weighted, with replacement; None: all alike.
    """

    files: Sequence[Path]
    image_N: np.ndarray
    labels_N: np.ndarray
    px: int
    batch: int
    steps: int
    threads: int
    device: str
    weights_N: np.ndarray | None = None
    work: Path = Path()  # for files of a peer's own


class _Files:
    """A torch data set of JPEG files with their labels; `load` makes the image."""

    def __init__(self, job: Job, load: Callable[[Path], Any]) -> None:
        self.job, self.load = job, load

    def __len__(self) -> int:
        return len(self.job.labels_N)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        path = self.job.files[self.job.image_N[i]]
        return self.load(path), int(self.job.labels_N[i])


def _torch_loader(job: Job, load: Callable[[Path], Any]) -> Epoch:
    import torch
    from torch.utils.data import DataLoader, RandomSampler, WeightedRandomSampler

    count = job.steps * job.batch
    data: Any = _Files(job, load)
    if job.weights_N is not None:
        weights: Any = torch.from_numpy(job.weights_N)
        sampler: Any = WeightedRandomSampler(weights, count)
    else:
        sampler = RandomSampler(data, num_samples=count)
    loader = DataLoader(
        data,
        batch_size=job.batch,
        sampler=sampler,
        num_workers=job.threads,
        persistent_workers=True,
        pin_memory=job.device == "cuda",
    )
    return lambda epoch: iter(loader)


def pil(job: Job) -> Epoch:
    """Pillow, torchvision's transforms, torch's DataLoader."""
    from PIL import Image
    from torchvision import transforms

    change = transforms.Compose(
        [
            transforms.RandomResizedCrop(job.px),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
        ]
    )
    return _torch_loader(job, lambda path: change(Image.open(path).convert("RGB")))


def torchvision(job: Job) -> Epoch:
    """torchvision's JPEG decoder and transforms v2, torch's DataLoader."""
    import warnings

    import torch
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms import v2

    warnings.simplefilter("ignore", DeprecationWarning)
    change = v2.Compose([v2.RandomResizedCrop(job.px, antialias=True), v2.RandomHorizontalFlip()])

    def load(path: Path) -> torch.Tensor:
        return change(decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB))

    return _torch_loader(job, load)


def stock_ffcv(job: Job, beton: Path, ids: np.ndarray) -> Epoch:
    """FFCV's own Loader over a .beton file that holds each of the files once.

    `ids` are the samples of an epoch in order: its own orders can't be weighted, and so both read
    the same images.
    """
    from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import RandomHorizontalFlip, Squeeze, ToTensor

    loader = Loader(
        str(beton),
        batch_size=job.batch,
        num_workers=job.threads,
        order=OrderOption.SEQUENTIAL,
        indices=list(map(int, job.image_N[ids])),
        os_cache=True,
        drop_last=False,
        pipelines={
            "image": [
                RandomResizedCropRGBImageDecoder((job.px, job.px)),
                RandomHorizontalFlip(),
                ToTensor(),
            ],
            "label": [IntDecoder(), ToTensor(), Squeeze()],
        },
    )
    return lambda epoch: iter(loader)


def plain_dali(job: Job) -> Epoch:
    """DALI with its own file reader, as its documentation shows it."""
    from nvidia.dali import fn
    from nvidia.dali.pipeline import Pipeline

    on_gpu = job.device == "cuda"
    pipeline = Pipeline(
        batch_size=job.batch,
        num_threads=job.threads,
        device_id=0 if on_gpu else None,
        prefetch_queue_depth=2,
    )
    with pipeline:
        encoded, labels = fn.readers.file(
            files=[str(path) for path in job.files],
            labels=[0] * len(job.files),
            random_shuffle=True,
            initial_fill=len(job.files),
        )
        decoder = "mixed" if on_gpu else "cpu"
        cropped: Any = fn.decoders.image_random_crop(
            encoded, random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3], device=decoder
        )
        resized: Any = fn.resize(cropped, size=[job.px, job.px], antialias=True)
        pipeline.set_outputs(fn.flip(resized, horizontal=fn.random.coin_flip()), labels)
    pipeline.build()

    depth, built = 2, False

    def epoch(number: int) -> Iterator[Any]:
        # `run` would prefetch the next epoch's batches beyond the end of this one, uncounted.
        nonlocal built
        for _ in range(1 if not built else depth):
            pipeline.schedule_run()  # the very first call schedules `depth`
        built = True
        for step in range(job.steps):
            yield pipeline.share_outputs()
            pipeline.release_outputs()
            if step + depth < job.steps:
                pipeline.schedule_run()

    return epoch
