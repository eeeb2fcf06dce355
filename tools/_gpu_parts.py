"""What gpu_check.py does beside the other tools: photographs to work on where none are given, and
how fast a network trains when its input costs nothing.

    python tools/_gpu_parts.py --backbone resnet50 --mode eager --device cuda --json FILE
"""

import argparse
import json
import tempfile
from pathlib import Path

import _product
import numpy as np
import torch
from PIL import Image

# Settings of compute.* for each way to run a network.
MODES = {
    "eager": (),
    "compiled": ("compute.compile=true",),
    "compiled, cuda graphs": ("compute.compile=true", "compute.cuda_graphs=true"),
}
CLASSES = 10
SMALLEST_BATCH = 16


def make_photos(folder: Path, count: int) -> None:
    """JPEG files of about ImageNet's sizes, smooth shapes with some noise: about as many bytes, and
    so about as much work to decode, as photographs have."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for i in range(count):
        width, height = (500, 375) if i % 4 else (375, 500)
        image = np.zeros((height, width, 3), np.float32)
        for cells in (4, 16, 64):
            coarse = generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            image += np.asarray(fine, np.float32) * (4 / (cells + 4))
        image += generator.normal(0, 6, image.shape)
        image = 255 * (image - image.min()) / (image.max() - image.min())
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{i:04d}.jpg", quality=90)


def train_speed(args: argparse.Namespace, scratch: Path) -> dict[str, float | int | str]:
    """Images a second of the product's loop on the engine `synthetic`, in the given mode.

    Where memory is short, with half the batch, down to SMALLEST_BATCH.
    """
    batch = args.batch_size
    while True:
        shards_dir = scratch / f"shards-{batch}"
        _product.shards_of_noise(batch * (args.warm_up + args.steps), 8, CLASSES, shards_dir)
        settings = [
            f"model.backbone={args.backbone}",
            f"data.px={args.px}",
            "data.engine=synthetic",
            f"optim.batch_size={batch}",
            "optim.epochs=1",
            "optim.lr=0.01",
            f"compute.device={args.device}",
            f"compute.log_every={args.warm_up}",
            *MODES[args.mode],
        ]
        run = _product.begin(shards_dir, "photos", settings, scratch / "run")
        speed = None
        try:
            speed = _product.Speed.of(_product.train(run))
        except torch.OutOfMemoryError:
            if batch // 2 < SMALLEST_BATCH:
                raise
        if speed is None:  # the error, and what it held of the training, is gone by now
            print(f"a batch of {batch} does not fit: trying {batch // 2}", flush=True)
            batch //= 2
            torch.cuda.empty_cache()
            continue
        found: dict[str, float | int | str] = {
            "backbone": args.backbone,
            "mode": args.mode,
            "px": args.px,
            "batch": batch,
            "images_per_s": speed.images_per_s,
        }
        if args.device == "cuda":
            found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--mode", choices=MODES, default="eager")
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpu-parts-") as scratch:
        found = train_speed(args, Path(scratch))
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
