"""`fit_heads` on made-up features, beside NumPy and scikit-learn."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fasttail import fit_heads
from fasttail.config import ClassifyConfig, NcmConfig, OptimConfig
from fasttail.errors import UserError
from fasttail.heads import BLOCK, DEFAULT_METHODS, LinearHead

COUNTS = np.array([450, 180, 75, 27, 12])
MEANS_CD = np.random.default_rng(0).normal(size=(5, 12)) + 1.5
METHODS = (*DEFAULT_METHODS, "joint", "balanced-softmax")


def draw(counts: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    labels_N = np.repeat(np.arange(5), counts)
    noise_ND = np.random.default_rng(seed).normal(size=(len(labels_N), 12)) * 1.2
    return (MEANS_CD[labels_N] + noise_ND).astype(np.float32), labels_N


TRAIN, VAL, TEST = draw(COUNTS, 1), draw(40, 2), draw(100, 3)


@pytest.fixture(scope="module")
def heads() -> dict[str, LinearHead]:
    return fit_heads(*TRAIN, METHODS, val=VAL)


def test_every_method_gives_its_head_and_balanced_ones_help_the_tail(heads):
    assert list(heads) == list(METHODS)
    rows = {method: head.report(*TEST) for method, head in heads.items()}
    joint = rows.pop("joint")
    for method, row in rows.items():
        assert row["all_macro"] > joint["all_macro"] > 70, method
        assert row["few"] > joint["few"], method
    assert heads["tau"].head.chosen_on == "val"


@pytest.mark.parametrize("method", METHODS)
def test_one_linear_layer_predicts_the_same(method, heads):
    weight_CD, bias_C = (values.astype(np.float64) for values in heads[method].linear)
    expected = (TEST[0] @ weight_CD.T + bias_C).argmax(1)
    assert (heads[method].predict(TEST[0]) == expected).mean() > 0.998
    assert (heads[method].scores(TEST[0]).argmax(1) == heads[method].predict(TEST[0])).all()


def test_torch_is_answered_in_torch_and_numpy_in_numpy(heads):
    features = torch.from_numpy(TEST[0])
    for call in (heads["crt"].predict, heads["crt"].scores):
        from_torch, from_numpy = call(features), call(TEST[0])
        assert isinstance(from_torch, torch.Tensor)
        assert isinstance(from_numpy, np.ndarray)
        assert (from_torch.numpy() == from_numpy).all()
    given = fit_heads(torch.from_numpy(TRAIN[0]), torch.from_numpy(TRAIN[1]), ["crt"])
    assert (given["crt"].predict(TEST[0]) == heads["crt"].predict(TEST[0])).all()
    half = fit_heads(TRAIN[0].astype(np.float16), TRAIN[1], ["ncm"])
    assert (half["ncm"].predict(TEST[0]) == heads["ncm"].predict(TEST[0])).mean() > 0.99


@pytest.mark.parametrize("scale", [1 / 64, 64.0])  # exact in floating point
def test_how_long_features_are_does_not_matter(scale, heads):
    other = fit_heads(TRAIN[0] * scale, TRAIN[1], ("crt", "ncm", "joint"))
    for method, head in other.items():
        same = head.predict(TEST[0] * scale) == heads[method].predict(TEST[0])
        assert same.all(), method


def test_crt_is_as_good_as_scikit_learns_balanced_regression(heads):
    regression = LogisticRegression(class_weight="balanced", max_iter=1000).fit(*TRAIN)
    expected = 100 * (regression.predict(TEST[0]) == TEST[1]).mean()
    assert heads["crt"].report(*TEST)["all_micro"] > expected - 3


def test_what_starts_from_a_classifier_starts_from_the_given_one():
    torch.manual_seed(0)
    classifier = nn.Linear(12, 5)
    counts = np.array([1000, 400, 90, 30, 10])
    found = fit_heads(*TRAIN, ("tau", "logit-adjust", "lws", "joint"), classifier=classifier,
                      counts=counts)  # fmt: skip
    weight_CD = classifier.weight.detach().double().numpy()
    bias_C = classifier.bias.detach().double().numpy()
    length_C1 = np.linalg.norm(weight_CD, axis=1, keepdims=True)
    np.testing.assert_allclose(found["tau"].linear[0], weight_CD / length_C1, rtol=1e-5)
    assert not found["tau"].linear[1].any()
    assert found["tau"].head.note == "tau 1, fixed: no val to choose it on"
    adjusted = bias_C - np.log(counts / counts.sum())
    np.testing.assert_allclose(found["logit-adjust"].linear[1], adjusted, rtol=1e-5)
    factor_CD = found["lws"].linear[0] / weight_CD
    np.testing.assert_allclose(factor_CD, np.repeat(factor_CD[:, :1], 12, 1), rtol=1e-4)
    assert np.ptp(factor_CD[:, 0]) > 0.1
    np.testing.assert_allclose(found["joint"].linear[0], weight_CD, rtol=1e-6)
    classifier = nn.Linear(12, 5, bias=False)
    assert not fit_heads(*TRAIN, ["joint"], classifier=classifier)["joint"].linear[1].any()
    as_arrays = fit_heads(*TRAIN, ["tau"], classifier=(weight_CD, bias_C))
    np.testing.assert_allclose(as_arrays["tau"].linear[0], found["tau"].linear[0], rtol=1e-5)


def test_the_nearest_mean_is_numpys(heads):
    center_D = TRAIN[0].astype(np.float64).mean(0)

    def unit(features: np.ndarray) -> np.ndarray:
        moved = features - center_D
        return moved / np.linalg.norm(moved, axis=1, keepdims=True)

    means_CD = np.stack([unit(TRAIN[0])[TRAIN[1] == c].mean(0) for c in range(5)])
    means_CD /= np.linalg.norm(means_CD, axis=1, keepdims=True)
    expected = unit(TEST[0]) @ means_CD.T
    np.testing.assert_allclose(heads["ncm"].scores(TEST[0]), expected, atol=1e-5)


def test_a_report_is_over_images_classes_and_shot_groups_of_training(heads):
    labels_N = TEST[1]
    right = heads["crt"].predict(TEST[0]) == labels_N
    by_class = np.array([right[labels_N == c].mean() for c in range(5)]) * 100
    row = heads["crt"].report(*TEST)
    assert row["all_micro"] == pytest.approx(100 * right.mean())
    assert row["many"] == pytest.approx(by_class[:2].mean())
    assert row["medium"] == pytest.approx(by_class[2:4].mean())
    assert row["few"] == pytest.approx(by_class[4])
    only_head = labels_N == 0
    assert heads["crt"].report(TEST[0][only_head], labels_N[only_head])["few"] is None


def test_a_nearest_mean_that_is_no_linear_layer_says_so():
    config = ClassifyConfig(ncm=NcmConfig(metric="l2"))
    (head,) = fit_heads(*TRAIN, ["ncm"], config=config).values()
    with pytest.raises(UserError, match="is no linear layer: take its scores"):
        head.linear  # noqa: B018


def test_settings_that_are_given_are_taken():
    once = ClassifyConfig(crt=OptimConfig(epochs=1))
    assert fit_heads(*TRAIN, ["crt"], config=once)["crt"].report(*TEST)["all_macro"] < 80


def with_hole() -> np.ndarray:
    features = TRAIN[0].copy()
    features[7, 3] = np.nan
    return features


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": ["ctr"]}, "did you mean 'crt'"),
        ({"methods": ["crt-last-block"]}, "choose from joint, linear, crt"),
        ({"labels": TRAIN[1][1:]}, "train: 744 rows of features, but 743 labels"),
        ({"labels": TRAIN[1] - 1}, "is negative"),
        ({"labels": TRAIN[1] * 2}, "no sample is of class 1, 3"),
        ({"features": TRAIN[0][0]}, r"train: features are torch.float32 \[12\]"),
        ({"features": (TRAIN[0] * 9).astype(int)}, r"train: features are torch.int64"),
        ({"features": with_hole()}, "row 7 are not finite"),
        ({"val": (VAL[0], VAL[1] + 1)}, "is none of the 5 classes"),
        ({"val": VAL[0]}, r"val: give a pair \(features, labels\)"),
        ({"val": with_hole(), "labels": TRAIN[1]}, "val: give a pair"),
        ({"val": (with_hole(), TRAIN[1])}, "val: features of row 7 are not finite"),
        ({"features": with_hole(), "methods": ["ncm"]}, "train: features of row 7 are not finite"),
        ({"features": TRAIN[0][:, :0]}, r"train: features are torch.float32 \[744, 0\]"),
        ({"features": TRAIN[0].astype(object)}, r"object_: give np.ascontiguousarray"),
        ({"features": TRAIN[0][::-1]}, r"strides are not .*: give np.ascontiguousarray"),
        ({"labels": np.eye(5)[TRAIN[1]]}, r"labels of shape \[744, 5\].*labels.argmax\(1\)"),
        ({"labels": TRAIN[1].astype(float)}, "labels are float64, not whole numbers"),
        ({"val": (VAL[0][:, :9], VAL[1])}, "val: features have 9 numbers, those of train 12"),
        ({"counts": [5, 4, 3, 2]}, r"counts are int64 \[4\]: .* each of the 5 classes"),
        ({"counts": [5.5, 4, 3, 2, 1]}, r"counts are float64 \[5\]"),
        ({"counts": [5, 4, 3, 2, 0]}, "all above 0"),
        ({"classifier": nn.Linear(12, 4)}, r"classifier of weight \[4, 12\]"),
        ({"classifier": np.zeros((5, 12))}, r"classifier: give .* a pair \(weight, bias\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_told_in_one_line(changes, said):
    given = {"features": TRAIN[0], "labels": TRAIN[1], "methods": ["crt"], **changes}
    with pytest.raises(UserError, match=said) as raised:
        fit_heads(**given)
    assert "\n" not in str(raised.value)


def test_features_of_another_length_are_refused_later_too(heads):
    with pytest.raises(UserError, match=r"\[500, 9\]: these heads take \[N, 12\]"):
        heads["crt"].predict(TEST[0][:, :9])
    with pytest.raises(UserError, match="500 rows of features, but 3 labels"):
        heads["crt"].report(TEST[0], [0, 1, 2])


class Largest(TorchDispatchMode):
    """Notes the largest memory that an operation's result has, but for that of `given`."""

    def __init__(self, given: torch.Tensor) -> None:
        super().__init__()
        self.bytes, self._given = 0, given.untyped_storage().data_ptr()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                memory = tensor.untyped_storage()
                if memory.data_ptr() != self._given:
                    self.bytes = max(self.bytes, memory.nbytes())
        return result


def test_nothing_of_the_features_size_is_made() -> None:
    rows, dim = 100_000, 128
    features = torch.randn(rows, dim)
    labels_N = np.arange(rows) % 3
    once = OptimConfig(epochs=1, batch_size=4096)
    config = ClassifyConfig(crt=once, lws=once)
    with Largest(features) as largest:
        heads = fit_heads(features, labels_N, METHODS, val=(features, labels_N), config=config)
        for head in heads.values():
            head.predict(features)
    assert BLOCK * dim * 4 <= largest.bytes <= BLOCK * dim * 8 < features.nbytes / 2
