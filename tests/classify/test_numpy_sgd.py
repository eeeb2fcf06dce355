"""Trained heads against the same training written in NumPy float64: forward, gradient, step."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from banks import COUNTS

from fasttail.classify import METHODS
from fasttail.classify.classifiers import fresh
from fasttail.classify.task import Task
from fasttail.config import OptimConfig
from fasttail.plan import TrainEpoch, View
from fasttail.plan.random import key
from fasttail.plan.samplers import class_balanced, instance

LR, MOMENTUM, DECAY, BATCH, EPOCHS = 0.05, 0.9, 5e-4, 32, 2
OPTIM = OptimConfig(epochs=EPOCHS, batch_size=BATCH, lr=LR, lr_batch_size=BATCH, weight_decay=DECAY)


def softmax(logits_BC: np.ndarray) -> np.ndarray:
    e = np.exp(logits_BC - logits_BC.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def batches(task: Task, sampler: Callable) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every step's features and labels: the plan's draws, by stage 2's seed."""
    split, bank = task.train_split, task.train
    found = []
    for epoch in range(EPOCHS):
        plan = TrainEpoch(
            split,
            p_C=sampler(np.array(COUNTS), 0.0),
            view=View.whole(out_px=1),
            seed=int(key("stage 2", task.config.seed)),
            epoch=epoch,
            batch_size=BATCH,
        )
        for step in range(plan.steps):
            ids_B = plan.batch(step).ids_B
            found.append((bank.features_ND[ids_B].double().numpy(), bank.labels_N[ids_B].numpy()))
    assert len(found) == EPOCHS * (sum(COUNTS) // BATCH)
    return found


class Sgd:
    """v = m v + (g + d w); w -= lr v, with a cosine from LR to 0 over all steps."""

    def __init__(self, *values: np.ndarray) -> None:
        self.values = [value.copy() for value in values]
        self._speed = [np.zeros_like(value) for value in values]

    def step(self, gradients: list[np.ndarray], number: int, of: int) -> None:
        lr = LR * 0.5 * (1 + np.cos(np.pi * number / of))
        for value, speed, gradient in zip(self.values, self._speed, gradients, strict=True):
            speed *= MOMENTUM
            speed += gradient + DECAY * value
            value -= lr * speed


def error(logits_BC: np.ndarray, labels_B: np.ndarray) -> np.ndarray:
    """The gradient of the mean cross entropy to the logits."""
    return (softmax(logits_BC) - np.eye(len(COUNTS))[labels_B]) / len(labels_B)


def test_lws_is_its_formulas_gradient_descent(make_task: Callable[..., Task]) -> None:
    task = make_task(lws=OPTIM)
    weight_CD, bias_C = task.joint.weight_CD.double().numpy(), task.joint.bias_C.double().numpy()
    sgd = Sgd(np.ones(len(COUNTS)))
    steps = batches(task, class_balanced)
    for number, (x_BD, labels_B) in enumerate(steps):
        plain_BC = x_BD @ weight_CD.T + bias_C
        error_BC = error(plain_BC * sgd.values[0], labels_B)
        sgd.step([(error_BC * plain_BC).sum(0)], number, len(steps))
    (scale_C,) = sgd.values
    head = METHODS["lws"](task)
    np.testing.assert_allclose(head.weight_CD, weight_CD * scale_C[:, None], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(head.bias_C, bias_C * scale_C, rtol=1e-6, atol=1e-6)
    assert np.ptp(scale_C) > 0.01


@pytest.mark.parametrize(
    ("method", "sampler", "prior"),
    [("crt", class_balanced, 0.0), ("balanced-softmax", instance, 1.0)],
)
def test_retrained_classifiers_are_their_losses_gradient_descent(
    make_task: Callable[..., Task], method: str, sampler: Callable, prior: float
) -> None:
    task = make_task(crt=OPTIM)
    linear = fresh(task)
    assert isinstance(linear, torch.nn.Linear)
    sgd = Sgd(linear.weight.detach().double().numpy(), linear.bias.detach().double().numpy())
    steps = batches(task, sampler)
    for number, (x_BD, labels_B) in enumerate(steps):
        logits_BC = x_BD @ sgd.values[0].T + sgd.values[1] + prior * np.log(COUNTS)
        error_BC = error(logits_BC, labels_B)
        sgd.step([error_BC.T @ x_BD, error_BC.sum(0)], number, len(steps))
    head = METHODS[method](task)
    np.testing.assert_allclose(head.weight_CD, sgd.values[0], atol=1e-6)
    np.testing.assert_allclose(head.bias_C, sgd.values[1], atol=1e-6)
    assert np.abs(sgd.values[0] - linear.weight.detach().numpy()).max() > 0.01
