"""tau: the published formula, the whole grid at once, and what it is chosen on."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from banks import bank

from fasttail.classify import grid
from fasttail.classify.features import Features
from fasttail.classify.grid import predict_over_grid
from fasttail.classify.task import Task
from fasttail.classify.tau import (
    SEEN,
    accuracies,
    choose,
    normalize_weights,
    standard_error,
    tau,
    tau_grid,
)
from fasttail.config import TauConfig
from fasttail.console import Reporter
from fasttail.errors import UserError

MakeTask = Callable[..., Task]


def float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy()


def macro_accuracy(predicted_N: np.ndarray, labels_N: np.ndarray) -> float:
    return float(np.mean([np.mean(predicted_N[labels_N == c] == c) for c in np.unique(labels_N)]))


class Heard(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("value", [0.0, 0.5, 0.7, 1.0, 2.0])
def test_tau_normalised_weights_are_equation_3s(task: Task, value: float) -> None:
    weight_CD = float64(task.joint.weight_CD)
    expected = np.stack([w / np.sqrt((w**2).sum()) ** value for w in weight_CD])
    np.testing.assert_allclose(
        normalize_weights(task.joint.weight_CD, value).numpy(), expected, rtol=1e-6
    )


def test_the_tau_grid_gives_each_taus_own_accuracy(task: Task) -> None:
    val = task.bank("val")
    grid_T = tau_grid(TauConfig())
    assert grid_T[[0, 7, 20]] == pytest.approx([0, 0.7, 2.0])
    assert len(grid_T) == 21
    zero_C = torch.zeros_like(task.joint.bias_C)
    predicted_TN = predict_over_grid(task.joint.weight_CD, zero_C, val, grid_T)
    accuracy_T = accuracies(predicted_TN, val.labels_N.numpy(), len(zero_C), by_class=True)
    features_ND, labels_N = float64(val.features_ND), val.labels_N.numpy()
    expected_T = []
    for value in grid_T:
        weight_CD = float64(task.joint.weight_CD)
        weight_CD = weight_CD / np.linalg.norm(weight_CD, axis=1, keepdims=True) ** value
        expected_T.append(macro_accuracy((features_ND @ weight_CD.T).argmax(1), labels_N))
    np.testing.assert_allclose(accuracy_T, expected_T, atol=1e-12)
    assert len(set(expected_T)) > 3


@pytest.mark.parametrize("rows", [1, 255, 700])
def test_the_grids_kernel_agrees_with_a_float64_argmax_for_any_number_of_rows(rows: int) -> None:
    generator = np.random.default_rng(rows)
    features_ND = generator.normal(size=(rows, 24)).astype(np.float16)
    weight_CD = generator.normal(size=(37, 24)) * generator.uniform(0.1, 3, (37, 1))
    weight_CD[5] = weight_CD[3]  # equal logits: the first class
    bias_C = generator.normal(size=37)
    bias_C[5] = bias_C[3]
    weight, bias = (torch.from_numpy(x.astype(np.float32)) for x in (weight_CD, bias_C))
    bank = Features(None, torch.from_numpy(features_ND), torch.zeros(rows, dtype=torch.int64))  # type: ignore[arg-type]
    predicted_TN = grid.predict_over_grid(weight, bias, bank, np.array([0.0, 0.8, 2.0]))
    for value, row_N in zip([0.0, 0.8, 2.0], predicted_TN, strict=True):
        norm_C = np.linalg.norm(float64(weight), axis=1)
        logits_NC = features_ND.astype(float) @ float64(weight).T * norm_C**-value + float64(bias)
        np.testing.assert_array_equal(row_N, logits_NC.argmax(1))
    assert not (predicted_TN == 5).any()
    by_torch_TN = torch.empty(predicted_TN.shape, dtype=torch.int32)
    scales_TC = torch.stack([weight.norm(dim=1) ** -value for value in (0.0, 0.8, 2.0)])
    grid._best_by_torch(torch.from_numpy(features_ND).float(), weight, scales_TC, bias, by_torch_TN)
    np.testing.assert_array_equal(by_torch_TN.numpy(), predicted_TN)


def test_tau_is_chosen_on_val_and_says_so(task: Task) -> None:
    head = tau(task)
    assert head.chosen_on == "val"
    assert head.note_for("test").endswith("chosen on val")
    assert "this split" in head.note_for("val")


def test_without_val_tau_is_fixed_and_not_chosen_on_anything(
    make_task: MakeTask, task: Task
) -> None:
    alone = make_task({"train": task.train})
    head = tau(alone)
    assert head.chosen_on is None
    assert "no val" in head.note
    torch.testing.assert_close(head.weight_CD, normalize_weights(task.joint.weight_CD, 1.0))


@pytest.mark.parametrize(
    ("choose_on", "chosen_on"), [("test", "test"), ("train", SEEN), ("fixed", None), ("val", "val")]
)
def test_tau_is_chosen_where_the_configuration_says(
    make_task: MakeTask, task: Task, choose_on: str, chosen_on: str | None
) -> None:
    asked: list[str] = []
    banks = {"train": task.train, "val": task.bank("val"), "test": task.bank("val")}
    other = make_task(banks, tau=TauConfig(choose_on=choose_on))  # type: ignore[arg-type]

    def noted(name: str) -> Features:
        asked.append(name)
        return banks[name]

    head = tau(replace(other, bank=noted))
    assert head.chosen_on == chosen_on
    assert set(asked) == ({choose_on} if chosen_on else set())
    marked = head.note_for("test").endswith("chosen on this split, test")
    assert marked == (choose_on == "test")


def test_a_split_that_is_not_there_is_named(make_task: MakeTask, task: Task) -> None:
    other = make_task({"train": task.train}, tau=TauConfig(choose_on="val"))
    with pytest.raises(UserError, match=r"choose_on is val, but the data set has no val: .*train"):
        tau(other)


def test_choosing_on_few_images_is_warned_of_and_on_many_is_not(
    make_task: MakeTask, task: Task
) -> None:
    def said(images: int) -> list[str]:
        heard = Heard()
        banks = {"train": task.train, "val": bank((images,) * 5, seed=5)}
        tau(replace(make_task(banks), reporter=heard))
        return heard.lines

    (line,) = said(4)
    assert "too few images to choose tau" in line
    assert "smallest class has 4 images" in line
    assert said(4000) == []


def test_choosing_by_images_is_micro_accuracy(task: Task) -> None:
    train = task.train
    zero_C = torch.zeros_like(task.joint.bias_C)
    choice = choose(task.joint.weight_CD, zero_C, train, TauConfig(choose_by="micro"))
    features_ND, labels_N = float64(train.features_ND), train.labels_N.numpy()
    for value, accuracy in zip(choice.grid_T, choice.accuracy_T, strict=True):
        weight_CD = float64(task.joint.weight_CD)
        weight_CD = weight_CD / np.linalg.norm(weight_CD, axis=1, keepdims=True) ** value
        hits_N = (features_ND @ weight_CD.T).argmax(1) == labels_N
        assert accuracy == pytest.approx(hits_N.mean(), abs=1e-12)


@pytest.mark.parametrize("by_class", [True, False])
def test_the_standard_error_is_that_of_many_draws_of_the_split(by_class: bool) -> None:
    generator = np.random.default_rng(4)
    labels_N = np.repeat([0, 1, 2], [400, 100, 50])
    differences, errors = [], []
    for _ in range(2000):
        one_N = generator.random(len(labels_N)) < 0.7
        other_N = np.where(generator.random(len(labels_N)) < 0.2, ~one_N, one_N)
        if by_class:
            both = [
                np.mean([hits_N[labels_N == c].mean() for c in range(3)])
                for hits_N in (one_N, other_N)
            ]
        else:
            both = [one_N.mean(), other_N.mean()]
        differences.append(both[0] - both[1])
        errors.append(standard_error(one_N, other_N, labels_N, by_class=by_class))
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.15)
