"""How long an epoch's images take on this machine: the engine is run for a moment and scaled."""

from contextlib import closing
from dataclasses import dataclass

from fasttail import engines, recipes
from fasttail.compute import pick
from fasttail.config import ComputeConfig
from fasttail.engines.auto import choose
from fasttail.engines.trial import run_for
from fasttail.plans import stage1_epochs
from fasttail.shards import Shards
from fasttail.world import World

SECONDS = 1.5


@dataclass(frozen=True)
class EpochTime:
    """What was measured, and what an epoch of `epoch_images` images would take at that pace. The
    network's own time is not in it."""

    engine: str
    device: str
    recipe: str
    view: str
    images: int
    seconds: float
    images_per_s: float
    epoch_images: int
    epoch_s: float

    def __str__(self) -> str:
        return (
            f"{self.epoch_s:,.1f} s for {self.epoch_images:,} images without the network's own "
            f"time: {self.images_per_s:,.0f} images/s, measured on {self.images:,} images in "
            f"{self.seconds:.1f} s (engine {self.engine} on {self.device}, {self.view})"
        )


def epoch_time(opened: Shards, seconds: float = SECONDS) -> EpochTime:
    """Runs the engine that `auto` picks here on real samples in the order and view of the data
    set's recipe. The first batch, with what is made ready for it, is not counted."""
    split = opened.split("train")
    image_px = int(max(split.heights_N.max(), split.widths_N.max()))
    recipe = recipes.for_dataset(opened.name, image_px)
    config = recipes.load(recipe)
    batch_size = min(config.optim.batch_size, len(split))
    optim = config.optim.model_copy(update={"batch_size": batch_size})
    compute = pick(ComputeConfig(), World())
    name, _ = choose(split, compute.device)
    epoch_plan = stage1_epochs(config.model_copy(update={"optim": optim}), split, World())
    with closing(engines.make(name, split, device=compute.device, threads=0)) as engine:
        images, elapsed_s = run_for(seconds, engine, epoch_plan)
    epoch_images = epoch_plan(0).steps * optim.batch_size
    return EpochTime(
        name,
        compute.device.type,
        recipe,
        f"{config.data.train_view} {config.data.px} px",
        images,
        elapsed_s,
        images / elapsed_s,
        epoch_images,
        epoch_images * elapsed_s / images,
    )
