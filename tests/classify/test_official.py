"""The official protocol, each difference against the authors' formula written down in NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from banks import COUNTS, bank
from torch import nn

from fasttail.classify.balanced import micro_accuracy
from fasttail.classify.fit import BestEpoch, epochs_of, rate_of
from fasttail.classify.ncm import ncm
from fasttail.classify.scoring import predict
from fasttail.classify.task import Job, Task
from fasttail.classify.tau import tau
from fasttail.config import (
    ClassifyConfig,
    NcmConfig,
    OptimConfig,
    ShotsConfig,
    TauConfig,
    TrainConfig,
)
from fasttail.evaluate.shots import Tally, summarize
from fasttail.plan import View
from fasttail.protocol import reported, settle
from fasttail.train.losses import cross_entropy_of_batch
from fasttail.world import World

CLEAN = TrainConfig(classify=ClassifyConfig(tau=TauConfig(bias=True)))
OFFICIAL = settle(CLEAN.model_copy(update={"protocol": "official"}), ("train", "val", "test"))


def job(optim: OptimConfig) -> Job:
    return Job("", nn.Linear(1, 1), optim, "class", cross_entropy_of_batch())


def test_the_protocol_is_the_tables_values_whatever_the_recipe_says() -> None:
    assert settle(CLEAN, ("train", "val", "test")) == CLEAN
    classify, tau = OFFICIAL.classify, OFFICIAL.classify.tau
    assert (classify.features, classify.batchnorm, classify.keep) == ("images", "train", "best")
    assert (classify.order, classify.crt.lr_per, classify.lws.lr_per) == (
        *("official", "epoch", "epoch"),
    )
    assert (OFFICIAL.draws, OFFICIAL.keep, OFFICIAL.optim.lr_per) == ("official", "best", "epoch")
    assert OFFICIAL.model.batchnorm == "train"
    assert (tau.grid_max, tau.grid_step, tau.bias) == (2.0, 0.1, False)
    assert (tau.choose_on, tau.choose_by) == ("test", "macro")
    assert classify.ncm == NcmConfig(transform="cl2n", metric="l2")
    assert OFFICIAL.shots.empty == "zero"
    assert classify.crt == CLEAN.classify.crt.model_copy(update={"lr_per": "epoch"})


@pytest.mark.parametrize(
    ("names", "name"),
    [(("train", "val", "test"), "test"), (("train", "val"), "val"), (("train",), None)],
)
def test_the_reported_split_is_test_or_else_val(names: tuple[str, ...], name: str | None) -> None:
    assert reported(names) == name
    config = CLEAN.model_copy(update={"protocol": "official"})
    assert settle(config, names).classify.tau.choose_on == (name or "fixed")


def test_rates_are_a_cosine_per_epoch_stepped_before_it() -> None:
    optim = OptimConfig(epochs=4, batch_size=8, lr=0.2, lr_batch_size=8)
    rate = rate_of(job(optim.model_copy(update={"lr_per": "epoch"})), steps_per_epoch=3)
    # torch's own scheduler, stepped as the authors do: before the epoch.
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4, eta_min=0.0)
    expected = []
    for _ in range(4):
        optimizer.step()
        scheduler.step()
        expected += 3 * [optimizer.param_groups[0]["lr"]]
    assert [rate(step) for step in range(12)] == pytest.approx(expected, abs=1e-12)
    assert rate(11) == pytest.approx(0)
    clean = rate_of(job(optim), steps_per_epoch=3)
    assert clean(0) == pytest.approx(0.2)
    assert clean(11) > 0


def test_class_balanced_draws_are_cycles_of_classes_with_four_images_in_a_row() -> None:
    split = bank(COUNTS, seed=1).split
    optim = OptimConfig(epochs=2, batch_size=20, lr=0.2, lr_batch_size=20)
    plan = epochs_of(job(optim), OFFICIAL, split, View.whole(1), World())(0)
    for step in range(plan.steps):
        # 20 draws are 5 rows of 4: every class once, 4 images each, or two halves of cycles.
        assert np.bincount(plan.batch(step).labels_B, minlength=5).tolist() == [4] * 5
    clean = epochs_of(job(optim), CLEAN, split, View.whole(1), World())(0)
    counts = [np.bincount(clean.batch(s).labels_B, minlength=5) for s in range(clean.steps)]
    assert any(count.tolist() != [4] * 5 for count in counts)
    assert np.ptp(np.sum(counts, 0)) <= 1
    assert plan.steps == clean.steps == sum(COUNTS) // 20


def test_the_first_of_the_best_epochs_on_val_is_kept() -> None:
    layer, accuracies = nn.Linear(1, 1), iter([0.3, 0.5, 0.5, 0.4])
    best = BestEpoch(layer, OFFICIAL, lambda: next(accuracies))
    for epoch in range(4):
        nn.init.constant_(layer.weight, float(epoch))
        best.look(epoch)
    assert best.restore() == ("epoch 2", "val")
    assert layer.weight.item() == 1.0
    last = BestEpoch(layer, CLEAN, lambda: 0.0)
    last.look(0)
    assert last.restore() == ("", None)
    assert layer.weight.item() == 1.0


def test_the_accuracy_that_chooses_an_epoch_is_over_images_and_not_over_classes() -> None:
    val = bank((90, 9, 9, 9, 9), seed=7)
    always_first = nn.Linear(val.dim, 5)
    nn.init.zeros_(always_first.weight)
    with torch.no_grad():
        always_first.bias.copy_(torch.tensor([1.0, 0, 0, 0, 0]))
    one = Job("", always_first, OptimConfig(), "class", cross_entropy_of_batch())
    assert micro_accuracy(one, val) == pytest.approx(90 / 126)


def test_tau_is_read_off_the_reported_split_without_bias_by_the_mean_of_class_accuracies(
    make_task: Callable[..., Task],
) -> None:
    banks = {"train": bank(COUNTS, 1), "val": bank((30,) * 5, 2), "test": bank((90, 9, 9, 9, 9), 7)}
    task = make_task(banks, tau=OFFICIAL.classify.tau)
    head = tau(task)
    test = banks["test"]
    features_ND, labels_N = test.features_ND.double().numpy(), test.labels_N.numpy()
    weight_CD = task.joint.weight_CD.double().numpy()
    norm_C1 = np.sqrt((weight_CD**2).sum(1, keepdims=True))
    # The authors' loop over p in np.linspace(0, 2, 21), and what they print as "all" of each.
    accuracy_TC = [
        [(hits_N[labels_N == c]).mean() for c in range(5)]
        for p in np.linspace(0, 2, 21)
        for hits_N in [(features_ND @ (weight_CD / norm_C1**p).T).argmax(1) == labels_N]
    ]
    best = np.linspace(0, 2, 21)[np.mean(accuracy_TC, 1).argmax()]
    by_images = np.average(accuracy_TC, 1, np.bincount(labels_N)).argmax()
    assert best != np.linspace(0, 2, 21)[by_images]
    assert head.note == f"tau {best:g}"
    assert not head.bias_C.any()
    assert head.note_for("test") == f"tau {best:g}, chosen on this split, test"
    np.testing.assert_allclose(head.weight_CD, weight_CD / norm_C1**best, rtol=1e-6)


def test_ncm_is_cl2n_with_means_that_are_not_renormalised_and_the_nearest_by_l2(
    make_task: Callable[..., Task],
) -> None:
    task = make_task(ncm=OFFICIAL.classify.ncm)
    head, val = ncm(task), task.bank("val")
    train_ND, labels_N = task.train.features_ND.double().numpy(), task.train.labels_N.numpy()
    test_ND = val.features_ND.double().numpy()
    # Their centroids: mean over train, centred, normalised, averaged; then -|x - m|^2, which is
    # what `main.py --test --knn` takes (`--dist_type l2`).
    mean_D = train_ND.mean(0)
    train_ND, test_ND = (
        (x - mean_D) / np.linalg.norm(x - mean_D, axis=1, keepdims=True)
        for x in (train_ND, test_ND)
    )
    means_CD = np.stack([train_ND[labels_N == c].mean(0) for c in range(5)])
    logits_NC = -np.square(test_ND[:, None] - means_CD).sum(2)
    np.testing.assert_array_equal(predict(head, val), logits_NC.argmax(1))
    for metric in ("cosine", "dot"):
        other = predict(ncm(make_task(ncm=NcmConfig(metric=metric))), val)
        assert not np.array_equal(other, logits_NC.argmax(1))


def test_an_empty_shot_group_is_zero_and_all_is_micro() -> None:
    tally = Tally(np.array([3, 4]), np.array([4, 16]))
    row = summarize(tally, np.array([500, 200]), OFFICIAL.shots)
    assert (row["medium"], row["few"]) == (0.0, 0.0)
    assert row["all_micro"] == pytest.approx(100 * 7 / 20)
    assert summarize(tally, np.array([500, 200]), ShotsConfig())["few"] is None
