"""Every method against the published formula in NumPy float64."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fasttail.classify import METHODS, names, of_these
from fasttail.classify.crt import crt
from fasttail.classify.head import Head
from fasttail.classify.logit_adjust import logit_adjust
from fasttail.classify.lws import lws
from fasttail.classify.methods import NEED_IMAGES, joint_head
from fasttail.classify.ncm import ncm
from fasttail.classify.scoring import predict
from fasttail.classify.task import Task
from fasttail.config import ClassifyConfig, NcmConfig, OptimConfig, TrainConfig
from fasttail.errors import UserError
from fasttail.models.recognizer import CosineClassifier, Recognizer

ON_BANK = [method for method in METHODS if method not in NEED_IMAGES]


def float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy()


@pytest.mark.parametrize("transform", ["un", "l2n", "cl2n"])
@pytest.mark.parametrize("metric", ["l2", "cosine", "dot"])
def test_ncm_finds_the_nearest_class_mean(
    make_task: Callable[..., Task], transform: str, metric: str
) -> None:
    task = make_task(ncm=NcmConfig(transform=transform, metric=metric))
    head, val = ncm(task), task.bank("val")

    train_ND, labels_N = float64(task.train.features_ND), task.train.labels_N.numpy()
    test_ND = float64(val.features_ND)
    if transform == "cl2n":
        center_D = train_ND.mean(0)
        train_ND, test_ND = train_ND - center_D, test_ND - center_D
    if transform != "un":
        train_ND = train_ND / np.linalg.norm(train_ND, axis=1, keepdims=True)
        test_ND = test_ND / np.linalg.norm(test_ND, axis=1, keepdims=True)
    means_CD = np.stack([train_ND[labels_N == c].mean(0) for c in np.unique(labels_N)])
    if metric == "dot":
        score_NC = test_ND @ means_CD.T / means_CD.shape[1]
        np.testing.assert_allclose(float64(head.logits(val.features_ND)), score_NC, atol=1e-6)
    elif metric == "l2":
        score_NC = -((test_ND[:, None] - means_CD) ** 2).sum(-1)
    else:
        score_NC = (test_ND @ means_CD.T) / (
            np.linalg.norm(test_ND, axis=1)[:, None] * np.linalg.norm(means_CD, axis=1)
        )
    np.testing.assert_array_equal(predict(head, val), score_NC.argmax(1))
    assert len(set(score_NC.argmax(1).tolist())) > 1


def test_lws_learns_one_factor_a_class_and_changes_nothing_else(task: Task) -> None:
    head = lws(task)
    factor_CD = head.weight_CD / task.joint.weight_CD
    torch.testing.assert_close(factor_CD, factor_CD[:, :1].expand_as(factor_CD))
    torch.testing.assert_close(head.bias_C, task.joint.bias_C * factor_CD[:, 0])
    assert factor_CD[:, 0].std() > 0.01


def test_crt_learns_a_new_classifier_that_serves_the_small_classes(task: Task) -> None:
    val = task.bank("val")
    labels_N = val.labels_N.numpy()
    few_N = labels_N >= 3
    head = crt(task)
    hits_N = predict(head, val) == labels_N
    joint_hits_N = predict(task.joint, val) == labels_N
    assert hits_N[few_N].mean() > joint_hits_N[few_N].mean()
    assert hits_N.mean() > 0.5


def test_the_same_task_gives_the_same_heads_bit_for_bit(task: Task) -> None:
    for method in ON_BANK:
        first, second = METHODS[method](task), METHODS[method](task)
        assert torch.equal(first.weight_CD, second.weight_CD)
        assert torch.equal(first.bias_C, second.bias_C)


@pytest.mark.parametrize("method", ON_BANK)
def test_a_saved_head_is_read_back_as_it_was(task: Task, method: str, tmp_path: Path) -> None:
    features_ND = task.bank("val").features_ND
    head = METHODS[method](task)
    head.save(tmp_path / "heads" / "head.safetensors")
    again = Head.load(tmp_path / "heads" / "head.safetensors")
    torch.testing.assert_close(again.logits(features_ND), head.logits(features_ND), rtol=0, atol=0)
    assert (again.method, again.note, again.chosen_on) == (method, head.note, head.chosen_on)


def test_post_hoc_adjustment_takes_the_log_prior_off_the_logits(
    make_task: Callable[..., Task],
) -> None:
    task = make_task(adjust_tau=1.5)
    head, val = logit_adjust(task), task.bank("val")
    counts_C = np.array(task.train_split.counts_C, float)
    joint_NC = float64(val.features_ND) @ float64(task.joint.weight_CD).T
    expected_NC = joint_NC + float64(task.joint.bias_C) - 1.5 * np.log(counts_C / counts_C.sum())
    np.testing.assert_allclose(float64(head.logits(val.features_ND)), expected_NC, atol=2e-5)
    assert head.note == "tau 1.5"


def test_a_cosine_classifier_stays_one_in_every_head_made_of_it(
    make_task: Callable[..., Task],
) -> None:
    task = make_task()
    model = Recognizer(torch.nn.Identity(), CosineClassifier(16, 5, scale=30.0))
    joint = joint_head(model)
    features_ND = task.bank("val").features_ND.float()
    torch.testing.assert_close(joint.logits(features_ND), model.classifier(features_ND))
    task = replace(task, joint=joint)
    for method in ON_BANK:
        head = METHODS[method](task)
        if method == "ncm":
            continue
        assert head.transform == "l2n", method
        torch.testing.assert_close(head.logits(features_ND), head.logits(3 * features_ND))


def test_a_training_that_comes_apart_says_what_to_lower(make_task: Callable[..., Task]) -> None:
    optim = OptimConfig(epochs=3, batch_size=32, lr=1e30, lr_batch_size=32)
    with pytest.raises(UserError, match=r"crt: its weights are not finite.*classify\.crt\.lr=X"):
        crt(make_task(crt=optim))


def test_methods_are_named_alone_in_a_list_or_all_at_once() -> None:
    assert names("tau,crt") == ["tau", "crt"]
    assert names("all") == list(METHODS)
    bank, images = (
        TrainConfig(classify=ClassifyConfig(features=features)) for features in ("bank", "images")
    )
    assert "crt-last-block" not in of_these("all", bank)
    assert "crt-last-block" in of_these("all", images)
    assert "linear" not in of_these("all", bank)
    assert of_these("all", bank, frozen_backbone=True)[0] == "linear"
    assert of_these("crt-last-block", bank) == ["crt-last-block"]
    with pytest.raises(UserError, match=r"did you mean 'crt'.*crt, lws, tau, ncm, .*all"):
        names("tau,crtt")
