"""Training a classifier on images, augmented as in stage 1, with the backbone frozen: as the
authors did it (sections 4 and 5.1 of the paper), and as it has to be where the backbone is to
change, in its last block or in its BatchNorm statistics."""

import copy
from contextlib import closing
from typing import cast

import torch
from torch import Tensor

from fasttail.classify.extract import Work
from fasttail.classify.fit import BestEpoch, check_finite, epochs_of, rate_of
from fasttail.classify.task import Fitted, Job
from fasttail.compute import share_buffers
from fasttail.evaluate.score import score
from fasttail.models import Recognizer
from fasttail.models.recognizer import Backbone
from fasttail.plans import planned_loader, train_view
from fasttail.train.log import Meter, progress_note
from fasttail.train.step import Step


def fit_on_images(job: Job, work: Work) -> Fitted:
    """Minimises the job's loss over its classifier's parameters, in place, and with "last-block"
    over a copy of the backbone's last stage; all processes of the job share each batch."""
    config, compute, world = work.config, work.compute, work.world
    split = work.shards.split("train")
    model = Recognizer(copy.deepcopy(work.model.backbone), cast(torch.nn.Linear, job.classifier))
    model.backbone.requires_grad_(False)
    if job.trained == "last-block":
        last_block(model).requires_grad_(True)
    step_by = Step(
        model,
        optim=job.optim,
        config=config.compute,
        compute=compute,
        world=world,
        seed=config.seed,
    )
    epoch_plan = epochs_of(job, config, split, train_view(config.data), world)
    steps = epoch_plan(0).steps
    rate = rate_of(job, steps)

    def val_accuracy() -> float:
        tally = score(
            model,
            work.shards,
            "val",
            config=config,
            compute=compute,
            world=world,
            engines=work.engines,
        )
        return float(tally.correct_C.sum() / tally.images_C.sum())

    best = BestEpoch(model, config, val_accuracy if "val" in work.shards.split_names else None)
    loader = planned_loader(work.shards, split, epoch_plan, config.data, work.engines, compute)
    meter, epochs = Meter(), job.optim.epochs
    with work.reporter.progress(f"{job.what} on images", epochs * steps) as bar:
        for epoch in range(epochs):
            _set_modes(model, job, config.classify.batchnorm)
            meter.start()
            with closing(iter(loader)) as batches:
                for step, (images, labels, ids) in enumerate(batches, epoch * steps):
                    loss = step_by(images, labels, job.loss, lr=rate(step), step=step)
                    meter.add(loss, ids, loader.wait_s)
                    last = step + 1 == (epoch + 1) * steps
                    if last or len(meter) == config.compute.log_every or bar.due:
                        bar.advance(0, note=progress_note(epoch, epochs, meter.read(step), world))
                    bar.advance()
            share_buffers(model, world)
            best.look(epoch)
    check_finite(job)
    note, chosen_on = best.restore()
    return Fitted(_changed(model, work.model), note, chosen_on)


def last_block(model: Recognizer) -> torch.nn.Module:
    """The backbone's last stage."""
    return cast(Backbone, model.backbone).last_block


def _set_modes(model: Recognizer, job: Job, batchnorm: str) -> None:
    """What is trained is in train mode; the rest of the backbone in eval mode, or in train mode too
    where BatchNorm is to take its batches' statistics."""
    # Not model.train(): that keeps a frozen BatchNorm as it is.
    model.backbone.train(batchnorm == "train")
    if job.trained == "last-block":
        last_block(model).train()
    model.classifier.train()


def _changed(model: Recognizer, stage_1: Recognizer) -> dict[str, Tensor] | None:
    """The tensors of the backbone that are not stage 1's any more, on the CPU."""
    before = stage_1.backbone.state_dict()
    changed = {
        name: tensor.detach().cpu().clone()
        for name, tensor in model.backbone.state_dict().items()
        if not torch.equal(tensor.cpu(), before[name].cpu())
    }
    return changed or None
