"""Every method against the published formula in NumPy float64."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fasttail.classify import METHODS, names
from fasttail.classify.crt import crt
from fasttail.classify.head import Head
from fasttail.classify.lws import lws
from fasttail.classify.methods import predict
from fasttail.classify.ncm import ncm
from fasttail.classify.task import Task
from fasttail.classify.tau import accuracy_over_grid, normalize_weights, tau, tau_grid
from fasttail.config import NcmConfig, TauConfig
from fasttail.errors import UserError


def float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy()


def macro_accuracy(predicted_N: np.ndarray, labels_N: np.ndarray) -> float:
    return float(np.mean([np.mean(predicted_N[labels_N == c] == c) for c in np.unique(labels_N)]))


@pytest.mark.parametrize("value", [0.0, 0.5, 0.7, 1.0, 2.0])
def test_tau_normalised_weights_are_equation_4s(task: Task, value: float) -> None:
    weight_CD = float64(task.joint.weight_CD)
    expected = np.stack([w / np.sqrt((w**2).sum()) ** value for w in weight_CD])
    np.testing.assert_allclose(
        normalize_weights(task.joint.weight_CD, value).numpy(), expected, rtol=1e-6
    )


def test_the_tau_grid_gives_each_taus_own_accuracy(task: Task) -> None:
    assert task.val is not None
    grid_T = tau_grid(TauConfig())
    assert grid_T[[0, 7, 20]] == pytest.approx([0, 0.7, 2.0])
    assert len(grid_T) == 21
    zero_C = torch.zeros_like(task.joint.bias_C)
    accuracy_T = accuracy_over_grid(task.joint.weight_CD, zero_C, task.val, grid_T)
    features_ND, labels_N = float64(task.val.features_ND), task.val.labels_N.numpy()
    expected_T = []
    for value in grid_T:
        weight_CD = float64(task.joint.weight_CD)
        weight_CD = weight_CD / np.linalg.norm(weight_CD, axis=1, keepdims=True) ** value
        expected_T.append(macro_accuracy((features_ND @ weight_CD.T).argmax(1), labels_N))
    np.testing.assert_allclose(accuracy_T, expected_T, atol=1e-12)
    assert len(set(expected_T)) > 3


def test_tau_is_chosen_on_val_and_says_so(task: Task) -> None:
    head = tau(task)
    assert head.chosen_on == "val"
    assert head.note_for("test").endswith("chosen on val")
    assert "this split" in head.note_for("val")


def test_without_val_tau_is_fixed_and_not_chosen_on_anything(task: Task) -> None:
    head = tau(Task(task.config, task.joint, task.train, None, task.reporter))
    assert head.chosen_on is None
    assert "no val" in head.note
    torch.testing.assert_close(head.weight_CD, normalize_weights(task.joint.weight_CD, 1.0))


@pytest.mark.parametrize("transform", ["un", "l2n", "cl2n"])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_ncm_finds_the_nearest_class_mean(task: Task, transform: str, metric: str) -> None:
    classify = task.config.classify.model_copy(
        update={"ncm": NcmConfig(transform=transform, metric=metric)}
    )
    config = task.config.model_copy(update={"classify": classify})
    head = ncm(Task(config, task.joint, task.train, task.val, task.reporter))
    assert task.val is not None

    train_ND, labels_N = float64(task.train.features_ND), task.train.labels_N.numpy()
    test_ND = float64(task.val.features_ND)
    if transform == "cl2n":
        center_D = train_ND.mean(0)
        train_ND, test_ND = train_ND - center_D, test_ND - center_D
    if transform != "un":
        train_ND = train_ND / np.linalg.norm(train_ND, axis=1, keepdims=True)
        test_ND = test_ND / np.linalg.norm(test_ND, axis=1, keepdims=True)
    means_CD = np.stack([train_ND[labels_N == c].mean(0) for c in np.unique(labels_N)])
    if metric == "l2":
        score_NC = -((test_ND[:, None] - means_CD) ** 2).sum(-1)
    else:
        score_NC = (test_ND @ means_CD.T) / (
            np.linalg.norm(test_ND, axis=1)[:, None] * np.linalg.norm(means_CD, axis=1)
        )
    np.testing.assert_array_equal(predict(head, task.val), score_NC.argmax(1))
    assert len(set(score_NC.argmax(1).tolist())) > 1


def test_lws_learns_one_factor_a_class_and_changes_nothing_else(task: Task) -> None:
    head = lws(task)
    factor_CD = head.weight_CD / task.joint.weight_CD
    torch.testing.assert_close(factor_CD, factor_CD[:, :1].expand_as(factor_CD))
    torch.testing.assert_close(head.bias_C, task.joint.bias_C * factor_CD[:, 0])
    assert factor_CD[:, 0].std() > 0.01


def test_crt_learns_a_new_classifier_that_serves_the_small_classes(task: Task) -> None:
    assert task.val is not None
    labels_N = task.val.labels_N.numpy()
    few_N = labels_N >= 3
    head = crt(task)
    hits_N = predict(head, task.val) == labels_N
    joint_hits_N = predict(task.joint, task.val) == labels_N
    assert hits_N[few_N].mean() > joint_hits_N[few_N].mean()
    assert hits_N.mean() > 0.5


def test_the_same_task_gives_the_same_heads_bit_for_bit(task: Task) -> None:
    for method in METHODS.values():
        first, second = method(task), method(task)
        assert torch.equal(first.weight_CD, second.weight_CD)
        assert torch.equal(first.bias_C, second.bias_C)


@pytest.mark.parametrize("method", list(METHODS))
def test_a_saved_head_is_read_back_as_it_was(task: Task, method: str, tmp_path: Path) -> None:
    assert task.val is not None
    head = METHODS[method](task)
    head.save(tmp_path / "heads" / "head.safetensors")
    again = Head.load(tmp_path / "heads" / "head.safetensors")
    torch.testing.assert_close(
        again.logits(task.val.features_ND), head.logits(task.val.features_ND), rtol=0, atol=0
    )
    assert (again.method, again.note, again.chosen_on) == (method, head.note, head.chosen_on)


def test_an_unknown_method_names_the_choices() -> None:
    assert names("all") == ["crt", "lws", "tau", "ncm"]
    with pytest.raises(UserError, match=r"did you mean 'crt'.*crt, lws, tau, ncm, all"):
        names("crtt")
