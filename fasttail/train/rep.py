"""Stage 1: a backbone and a joint classifier, with one of the samplers (Kang et al. 2020, sec. 3).

    plan(seed, epoch) -> engine -> augment -> forward, backward, step

The whole state is (weights, optimizer, loss scaler, epoch, step): a run that was killed and resumed
goes on bit for bit as if nothing had happened, since every random choice is in the plan.
"""

import time
from collections.abc import Iterator
from contextlib import closing

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fasttail import engines, models
from fasttail.compute import Compute, share_buffers, wait_for_all
from fasttail.console import Reporter
from fasttail.engines.augment import augment
from fasttail.engines.base import Batch
from fasttail.errors import UserError
from fasttail.evaluate.score import score
from fasttail.evaluate.shots import summarize
from fasttail.plans import train_epochs, train_view
from fasttail.rundir import Run
from fasttail.shards import Shards
from fasttail.train.checkpoint import Checkpoints, Position, load_weights, save_weights
from fasttail.train.log import Meter, RunLog
from fasttail.train.preemption import Preempted, Preemption
from fasttail.train.schedule import learning_rate
from fasttail.world import World

SAY_EVERY_S = 10.0  # short epochs don't fill the screen


def train(
    run: Run,
    shards: Shards,
    *,
    world: World,
    compute: Compute,
    reporter: Reporter,
    resume: bool,
    init: models.Recognizer | None = None,
) -> models.Recognizer:
    """Trains stage 1 of a run and leaves `model.safetensors` there. Returns the model.

    With `resume`, goes on from the run's newest checkpoint, if it has one. `init` is a model to
    start from instead of one with fresh weights. Raises `UserError` if the batch does not fit the
    split or the world, `FloatingPointError` if a loss is not finite, and `Preempted` when SIGTERM
    or SIGUSR1 came and the checkpoint is written.
    """
    config = run.config
    optim = config.optim

    # ---- data -------------------------------------------------------------------------------
    split = shards.split("train")
    epoch_plan = train_epochs(
        config,
        split,
        seed=config.seed,
        sampler=config.sampler,
        optim=optim,
        view=train_view(config.data),
        world=world,
    )
    steps_per_epoch = epoch_plan(0).steps

    # ---- model and optimizer ----------------------------------------------------------------
    torch.manual_seed(config.seed)
    model = init or models.build(config.model.backbone, len(run.class_names))
    model.freeze_all_but(config.model.trained)
    compute.place(model)
    optimizer = torch.optim.SGD(
        [
            {"params": _trained(model.backbone), "lr_scale": optim.backbone_lr_scale},
            {"params": _trained(model.classifier), "lr_scale": 1.0},
        ],
        lr=optim.scaled_lr,
        momentum=optim.momentum,
        nesterov=optim.nesterov,
        weight_decay=optim.weight_decay,
        fused=True,
    )
    scaler = compute.grad_scaler()

    # ---- where to go on ---------------------------------------------------------------------
    checkpoints = Checkpoints(run.checkpoints_dir)
    position = Position(epoch=0, step=0)
    found = checkpoints.latest() if resume else None
    if found is not None:
        position, weights, state = found
        model.load_state_dict(weights)
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        reporter.say(f"going on at epoch {position.epoch + 1}, step {position.step}")
    wait_for_all(world)

    def save(position: Position) -> None:
        if world.is_main:
            state = {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
            checkpoints.save(position, model, state)

    # ---- the loop ---------------------------------------------------------------------------
    network = _distributed(model, compute, world)
    forward = torch.compile(network) if config.compute.compile else network
    mean, std = shards.meta.mean, shards.meta.std
    meter = Meter()
    save_every_s = 60 * config.compute.checkpoint_every_min
    saved_s = said_s = time.monotonic()
    best = float("-inf")
    best_epoch = None
    with (
        closing(
            engines.make(
                config.data.engine, split, device=compute.device, threads=config.data.threads
            )
        ) as engine,
        RunLog(run.log_path, enabled=world.is_main, tensorboard=config.compute.tensorboard) as log,
        reporter.progress("stage 1", optim.epochs * steps_per_epoch) as bar,
        Preemption() as preemption,
    ):
        bar.advance(position.epoch * steps_per_epoch + position.step)
        for epoch in range(position.epoch, optim.epochs):
            model.train()
            start = position.step if epoch == position.epoch else 0
            plan = epoch_plan(epoch)
            meter.start()
            with closing(engine.run(plan, start)) as batches:
                for step, (batch, wait_s) in enumerate(_timed(batches), start):
                    global_step = epoch * steps_per_epoch + step
                    lr = learning_rate(global_step, steps_per_epoch, optim, config.protocol)
                    for group in optimizer.param_groups:
                        group["lr"] = lr * group["lr_scale"]

                    images = augment(
                        batch, mean=mean, std=std, dtype=compute.dtype, device=compute.device
                    )
                    labels_B = batch.labels_B.to(compute.device, non_blocking=True)
                    with compute.autocast():
                        logits_BC = forward(images)
                        loss = F.cross_entropy(
                            logits_BC, labels_B, label_smoothing=optim.label_smoothing
                        )
                    optimizer.zero_grad(set_to_none=True)
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()

                    meter.add(loss, batch.ids_B, wait_s)
                    look = len(meter) == config.compute.log_every or step + 1 == steps_per_epoch
                    if look:
                        values = meter.read(global_step)
                        log.scalars("train", global_step, epoch=epoch, lr=lr, **values)
                        bar.advance(0, note=_note(epoch, optim.epochs, values, world))
                    bar.advance()
                    leave = preemption.asked(world, compute, agree=look)
                    if leave or time.monotonic() - saved_s > save_every_s:
                        save(Position(epoch, step + 1))
                        saved_s = time.monotonic()
                    if leave:
                        raise Preempted
            share_buffers(model, world)
            save(Position(epoch + 1, 0))
            saved_s = time.monotonic()

            if "val" in shards.split_names and (epoch + 1) % config.validate_every == 0:
                tally = score(model, shards, "val", config=config, compute=compute, world=world)
                row = summarize(tally, split.counts_C, config.shots)
                log.write("val", epoch=epoch, **row)
                if epoch + 1 == optim.epochs or time.monotonic() - said_s > SAY_EVERY_S:
                    said_s = time.monotonic()
                    reporter.say(
                        f"epoch {epoch + 1}/{optim.epochs}: val accuracy {row['all_micro']:.1f} % "
                        f"over images, {row['all_macro']:.1f} % over classes"
                    )
                if row["all_micro"] > best:
                    best, best_epoch = row["all_micro"], epoch + 1

    # ---- what stays -------------------------------------------------------------------------
    if best_epoch is not None:
        reporter.say(
            f"best epoch on val: {best_epoch} with {best:.1f} %; the last epoch's model is kept"
        )
    if world.is_main:
        save_weights(run.model_path, model.state_dict(), about_model(run))
    wait_for_all(world)
    return model


def about_model(run: Run) -> dict[str, str | int]:
    """What model.safetensors says of itself."""
    return {
        "backbone": run.config.model.backbone,
        "classes": len(run.class_names),
        "shards_digest": run.shards_digest,
    }


def load_model(run: Run, compute: Compute) -> models.Recognizer:
    """The model that stage 1 left in a run. `UserError` if stage 1 has not ended there."""
    if not run.model_path.exists():
        raise UserError(
            f"{run.dir}: stage 1 has not ended here (no {run.model_path.name}): "
            f"go on with fasttail train --stage rep --run {run.dir} --resume"
        )
    weights, _ = load_weights(run.model_path)
    model = models.build(run.config.model.backbone, len(run.class_names))
    model.load_state_dict(weights)
    compute.place(model)
    return model


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _distributed(model: nn.Module, compute: Compute, world: World) -> nn.Module:
    if world.size == 1:
        return model
    device_ids = [compute.device.index] if compute.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=device_ids)


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that were spent waiting for it."""
    while True:
        asked_s = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - asked_s


def _note(epoch: int, epochs: int, values: dict[str, float], world: World) -> str:
    return (
        f"epoch {epoch + 1}/{epochs}, loss {values['loss']:.3f}, "
        f"{values['images_per_s'] * world.size:,.0f} images/s, "
        f"waiting for data {values['waiting_share']:.1%}"
    )
