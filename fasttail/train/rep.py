"""Stage 1: a backbone and a joint classifier, with one of the samplers (Kang et al. 2020, sec. 3).

    plan(seed, epoch) -> loader -> Step: forward, backward, update

The whole state is (weights, their average, optimizer, loss scaler, epoch, step): a run that was
killed and resumed goes on bit for bit as if nothing had happened, since every random choice is in
the plan.
"""

import time
from contextlib import closing
from dataclasses import asdict, dataclass

import torch

from fasttail import models
from fasttail.compute import Compute, share_buffers, wait_for_all
from fasttail.config import TrainConfig
from fasttail.console import Reporter
from fasttail.engines.kept import Kept
from fasttail.errors import UserError
from fasttail.evaluate.score import score
from fasttail.evaluate.shots import summarize
from fasttail.plans import planned_loader, stage1_epochs, stage1_mixes
from fasttail.protocol import settle
from fasttail.rundir import Run, provenance
from fasttail.shards import Shards
from fasttail.train.average import Average
from fasttail.train.checkpoint import Checkpoints, Position, load_weights, put_weights, save_weights
from fasttail.train.log import Meter, NonFiniteLoss, RunLog, progress_note
from fasttail.train.losses import loss_for_epoch
from fasttail.train.preemption import Preempted, Preemption
from fasttail.train.schedule import learning_rate
from fasttail.train.step import Step
from fasttail.world import World

SAY_EVERY_S = 10.0  # short epochs don't fill the screen, nor the disk


@dataclass(frozen=True)
class Best:
    """The epoch with the highest accuracy on val so far, in percent over images; epochs from 1."""

    accuracy: float = -1.0
    epoch: int = 0


def train(
    run: Run,
    shards: Shards,
    *,
    world: World,
    compute: Compute,
    reporter: Reporter,
    resume: bool,
    engines: Kept,
) -> models.Recognizer:
    """Trains stage 1 of a run and leaves `model.safetensors` there. Returns the model.

    Starts from the weights that the run was given (`--init`), or from fresh ones; with `resume`,
    goes on from the run's newest checkpoint, if it has one. What is kept at the end is the last
    epoch's model, or with `keep: best` that of the best epoch on val.

    Raises `UserError` if the batch does not fit the split or the world, `NonFiniteLoss` if a loss
    is not finite, and `Preempted` when a signal to leave came and the checkpoint is written.
    """
    config = settle(run.config, shards.split_names)
    optim = config.optim

    # ---- data -------------------------------------------------------------------------------
    split = shards.split("train")
    epoch_plan = stage1_epochs(config, split, world)
    mix_at = stage1_mixes(config, world)
    steps_per_epoch = epoch_plan(0).steps

    # ---- model and optimizer ----------------------------------------------------------------
    model = new_model(config, len(run.class_names))
    model.freeze_all_but(config.model.trained, config.model.batchnorm)
    train_step = Step(
        model,
        optim=optim,
        config=config.compute,
        compute=compute,
        world=world,
        seed=config.seed,
    )
    loss_at = loss_for_epoch(
        config.loss,
        split.counts_C,
        device=compute.device,
        logit_scale=config.cosine_scale or 1.0,
        label_smoothing=optim.label_smoothing,
    )

    # ---- where to start or go on ------------------------------------------------------------
    checkpoints = Checkpoints(run.checkpoints_dir)
    position = Position(epoch=0, step=0)
    best = Best()
    found = checkpoints.latest() if resume else None
    if checkpoints.damage:
        reporter.say(f"{checkpoints.damage}: using the checkpoint before it")
    if found is not None:
        position, weights, state = found
        put_weights(model, weights, run.checkpoints_dir)
        train_step.load_state(state)
        best = Best(**state["best"])
        reporter.say(f"resuming at epoch {position.epoch + 1}, step {position.step}")
    elif run.init is not None:
        put_weights(model, load_weights(run.start_path)[0], run.start_path)
    average = Average(model, config.model.ema_decay) if config.model.ema_decay else None
    if average is not None and found is not None:
        put_weights(average.model, found[2]["average"], run.checkpoints_dir)
    kept = model if average is None else average.model  # what is scored, and stays
    wait_for_all(world)

    def save(position: Position) -> float:
        if not _is_finite(model):  # a finite loss can have a gradient that is not
            raise NonFiniteLoss(
                f"the weights are not finite before epoch {position.epoch + 1}, step "
                f"{position.step + 1}: lower the learning rate (--lr X)"
            )
        if world.is_main:
            state = {**train_step.state(), "best": asdict(best)}
            if average is not None:
                state["average"] = average.model.state_dict()
            checkpoints.save(position, model, state)
        return time.monotonic()

    # ---- the loop ---------------------------------------------------------------------------
    meter = Meter()
    save_every_s = 60 * config.compute.checkpoint_every_min
    saved_s = said_s = time.monotonic()
    choice = engines.settle(
        split,
        epoch_plan(0),
        lambda: train_step.images_per_s(epoch_plan(0), loss_at(0.0)),
        world,
    )
    loader = planned_loader(shards, split, epoch_plan, config.data, engines, compute)
    loader.seek(position.epoch, position.step)
    with (
        RunLog(
            run.log_path,
            enabled=world.is_main,
            tensorboard=config.compute.tensorboard,
            without_tensorboard=lambda: reporter.say(
                "no TensorBoard events: tensorboard is not installed, log.jsonl has the numbers; "
                'pip install "fasttail[tensorboard]"'
            ),
        ) as log,
        reporter.progress("stage 1", optim.epochs * steps_per_epoch) as bar,
        Preemption() as preemption,
    ):
        log.write("start", provenance=provenance(), config=config.model_dump(mode="json"))
        if choice is not None:
            reporter.say(f"engine {choice.engine}: {choice.why}")
            log.write("engine", **asdict(choice))
            if world.is_main:
                run.note_engine(choice)
        bar.advance(position.epoch * steps_per_epoch + position.step)
        for epoch in range(position.epoch, optim.epochs):
            model.train()
            loss_of = loss_at(epoch / optim.epochs)
            start = position.step if epoch == position.epoch else 0
            meter.start()
            with closing(iter(loader)) as batches:
                for step, (images_BCHW, labels_B, ids_B) in enumerate(batches, start):
                    global_step = epoch * steps_per_epoch + step
                    lr = learning_rate(global_step, steps_per_epoch, optim)
                    log_now = step + 1 == steps_per_epoch
                    log_now |= len(meter) + 1 == config.compute.log_every
                    loss = train_step(
                        images_BCHW,
                        labels_B,
                        loss_of,
                        lr=lr,
                        step=global_step,
                        mix=mix_at(epoch, step),
                        measure=log_now,
                    )
                    if average is not None:
                        average.update(global_step)

                    meter.add(loss, ids_B, loader.wait_s)
                    if log_now:
                        values = meter.read(global_step)
                        norms = train_step.norms.read()
                        log.scalars("train", global_step, epoch=epoch, lr=lr, **values, **norms)
                        bar.advance(0, note=progress_note(epoch, optim.epochs, values, world))
                    elif bar.due:
                        values = meter.values(global_step)
                        bar.advance(0, note=progress_note(epoch, optim.epochs, values, world))
                    bar.advance()
                    leave = preemption.asked(world, compute, agree=log_now)
                    if leave or time.monotonic() - saved_s > save_every_s:
                        meter.check(global_step)
                        saved_s = save(Position(epoch, step + 1))
                    if leave:
                        raise Preempted(leave)
            share_buffers(model, world)
            if average is not None:
                share_buffers(average.model, world)

            if "val" in shards.split_names and (epoch + 1) % config.validate_every == 0:
                if time.monotonic() - saved_s > SAY_EVERY_S:
                    saved_s = save(Position(epoch, steps_per_epoch))
                tally = score(
                    kept,
                    shards,
                    "val",
                    config=config,
                    compute=compute,
                    world=world,
                    engines=engines,
                )
                row = summarize(tally, split.counts_C, config.shots)
                log.scalars("val", (epoch + 1) * steps_per_epoch - 1, epoch=epoch, **row)
                if epoch + 1 == optim.epochs or time.monotonic() - said_s > SAY_EVERY_S:
                    said_s = time.monotonic()
                    reporter.say(
                        f"epoch {epoch + 1}/{optim.epochs}: val accuracy {row['all_micro']:.1f} % "
                        f"over images, {row['all_macro']:.1f} % over classes"
                    )
                if row["all_micro"] > best.accuracy:
                    best = Best(row["all_micro"], epoch + 1)
                    if world.is_main:
                        checkpoints.keep(Checkpoints.BEST, kept, asdict(best))
            if world.is_main and _is_kept(epoch + 1, config.compute.keep_every):
                name = f"epoch-{epoch + 1:04d}.safetensors"
                checkpoints.keep(name, kept, {**about_model(run), "epoch": epoch + 1})
            saved_s = save(Position(epoch + 1, 0))
            if leave := preemption.asked(world, compute, agree=True):
                raise Preempted(leave)

    # ---- what stays -------------------------------------------------------------------------
    wait_for_all(world)
    if best.epoch:
        reporter.say(
            f"best epoch on val: {best.epoch} with {best.accuracy:.1f} %; "
            f"the {config.keep} epoch's model is kept"
        )
        if config.keep == "best":
            path = run.checkpoints_dir / Checkpoints.BEST
            put_weights(kept, load_weights(path)[0], path)
    if world.is_main:
        save_weights(run.model_path, kept.state_dict(), about_model(run))
    wait_for_all(world)
    return kept


def new_model(config: TrainConfig, num_classes: int) -> models.Recognizer:
    """A model as configured, with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return models.build(config.model.backbone, num_classes, cosine_scale=config.cosine_scale)


def about_model(run: Run) -> dict[str, str | int]:
    """What model.safetensors says of itself."""
    return {
        "backbone": run.config.model.backbone,
        "classes": len(run.class_names),
        "shards_digest": run.shards_digest,
    }


def load_model(run: Run, compute: Compute) -> models.Recognizer:
    """The model that stage 1 left in a run. `UserError` if stage 1 is not finished there."""
    if not run.model_path.exists():
        raise UserError(
            f"{run.dir}: stage 1 is not finished (no {run.model_path.name}): "
            f"resume with fasttail train --stage rep --run {run.dir} --resume"
        )
    model = new_model(run.config, len(run.class_names))
    weights = load_weights(run.model_path)[0]
    if run.frozen is not None:  # its heads are files of their own
        weights |= {f"classifier.{name}": of for name, of in model.classifier.state_dict().items()}
    put_weights(model, weights, run.model_path)
    compute.place(model)
    return model


def _is_finite(model: models.Recognizer) -> bool:
    return bool(torch.stack([value.isfinite().all() for value in model.parameters()]).all())


def _is_kept(epoch: int, keep_every: int) -> bool:
    return keep_every > 0 and epoch % keep_every == 0
