"""From the configuration to plans: the views of images, the epochs of a training, and what loads
them."""

from collections.abc import Callable
from dataclasses import replace

from fasttail.compute import Compute
from fasttail.config import DataConfig, OptimConfig, TrainConfig
from fasttail.engines.kept import Kept
from fasttail.loader import Normalisation, PlannedLoader, Plans
from fasttail.plan import EvalEpoch, TrainEpoch, View, samplers
from fasttail.plan.mixing import Mix, Mixing, check_pairs
from fasttail.plan.official import draws as official_draws
from fasttail.shards import Shards, Split
from fasttail.world import World


def train_view(data: DataConfig) -> View:
    """The view of stage 1, random but where `data.train_view` is a fixed one: flips and jitter are
    drawn for any."""
    return replace(_view(data.train_view, data), flip_p=data.flip_p, jitter=data.jitter)


def eval_view(data: DataConfig) -> View:
    """The fixed view of evaluation and of stage 2's features."""
    return _view(data.eval_view, data)


def _view(kind: str, data: DataConfig) -> View:
    if kind == "random-resized-crop":
        return View.random_resized_crop(data.px, data.scale, data.ratio, flip_p=0)
    if kind == "random-crop":
        return View.random_crop(data.px, data.padding, flip_p=0)
    if kind == "whole":
        return View.whole(data.px)
    return View.center(data.px, data.resize_px)


def train_epochs(
    config: TrainConfig,
    split: Split,
    *,
    seed: int,
    sampler: str,
    optim: OptimConfig,
    view: View,
    world: World,
) -> Callable[[int], TrainEpoch]:
    """Epoch number -> its plan for this process, for a training by `optim` with a sampler.

    Raises `UserError` for an unknown sampler, and a batch that the split or the world can't fill.
    """
    kind = official_draws(sampler) if config.draws == "official" else config.draws
    probabilities = samplers.schedule(sampler, split.counts_C, optim.epochs)

    def epoch_plan(epoch: int) -> TrainEpoch:
        return TrainEpoch(
            split,
            p_C=probabilities,
            view=view,
            seed=seed,
            epoch=epoch,
            batch_size=optim.batch_size,
            rank=world.rank,
            world_size=world.size,
            draws=kind,
        )

    return epoch_plan


def stage1_epochs(config: TrainConfig, split: Split, world: World) -> Callable[[int], TrainEpoch]:
    """Epoch number -> its plan for this process, in stage 1. Raises as `train_epochs` does."""
    return train_epochs(
        config,
        split,
        seed=config.seed,
        sampler=config.sampler,
        optim=config.optim,
        view=train_view(config.data),
        world=world,
    )


def stage1_mixes(config: TrainConfig, world: World) -> Callable[[int, int], Mix | None]:
    """Epoch and step -> how this process's images of stage 1 are mixed; None where they are not.

    Raises `UserError` for a batch that the world can't take in pairs.
    """
    mix, batch_size, px = config.mix, config.optim.batch_size, config.data.px
    if mix.p * max(mix.mixup_alpha, mix.cutmix_alpha) == 0:
        return lambda epoch, step: None
    check_pairs(batch_size, world.size)
    mixing, share = Mixing(mix.mixup_alpha, mix.cutmix_alpha, mix.p), batch_size // world.size

    def mix_at(epoch: int, step: int) -> Mix:
        first = step * batch_size + world.rank * share
        return mixing.at(config.seed, epoch, first, share, (px, px))

    return mix_at


def eval_epoch(config: TrainConfig, split: Split, world: World) -> EvalEpoch:
    """Every sample of a split once, over all processes, with the fixed view."""
    return EvalEpoch(
        split,
        view=eval_view(config.data),
        batch_size=config.data.eval_batch_size * world.size,
        rank=world.rank,
        world_size=world.size,
    )


def normalisation(data: DataConfig, shards: Shards) -> Normalisation:
    """Mean and standard deviation of each colour: as configured, or those of the shards."""
    return data.mean or shards.meta.mean, data.std or shards.meta.std


def planned_loader(
    shards: Shards, split: Split, plans: Plans, data: DataConfig, engines: Kept, compute: Compute
) -> PlannedLoader:
    """Images, labels and ids of a split as the plans say, in the type that is computed with."""
    return PlannedLoader(
        engines.of(split),
        plans,
        normalisation=normalisation(data, shards),
        dtype=compute.dtype,
    )
