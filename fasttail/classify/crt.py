"""cRT: a new classifier is trained with class-balanced draws (section 4), on the
frozen features or, for `crt-last-block`, together with the backbone's last block. `linear` is the
same with instance-balanced draws: what a joint training's classifier is to a frozen backbone."""

from fasttail.classify.classifiers import as_head, fresh, with_fitted
from fasttail.classify.head import Head
from fasttail.classify.task import Job, Task
from fasttail.train.losses import cross_entropy_of_batch


def linear(task: Task) -> Head:
    """A classifier from fresh weights, by instance-balanced draws."""
    return _retrained("linear", task, "instance")


def crt(task: Task) -> Head:
    """A classifier from fresh weights, on the frozen backbone."""
    return _retrained("crt", task, task.config.classify.sampler)


def crt_last_block(task: Task) -> Head:
    """cRT with the last block trained too, at `classify.block_lr_scale` of the learning rate: of
    the paper's ablation of what to re-train. Needs images; the block is kept with the head."""
    sampler = task.config.classify.sampler
    return _retrained("crt-last-block", task, sampler, last_block=True)


def _retrained(method: str, task: Task, sampler: str, last_block: bool = False) -> Head:
    classify = task.config.classify
    classifier, optim = fresh(task), classify.crt
    if last_block:
        optim = optim.model_copy(update={"backbone_lr_scale": classify.block_lr_scale})
    job = Job(
        method,
        classifier,
        optim,
        sampler,
        cross_entropy_of_batch(optim.label_smoothing),
        trained="last-block" if last_block else "classifier",
    )
    fitted = task.fit(job)
    return with_fitted(as_head(method, classifier), fitted)
