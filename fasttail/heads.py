"""`fit_heads`: stage 2 for features that somebody has already, of CLIP, DINO or anything.

    features [N, D], labels [N] -> the methods of `fasttail.classify` -> a `LinearHead` each

Features are read a batch at a time from where they are, a memory map too: nothing of their size is
made beside them.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from fasttail.classify import METHODS, Head
from fasttail.classify.balanced import fit_on_bank
from fasttail.classify.crt import linear
from fasttail.classify.features import Features
from fasttail.classify.fit import fit_at_length, for_so_many, length
from fasttail.classify.methods import NEED_IMAGES
from fasttail.classify.task import Fitted, Job, Task
from fasttail.config import DEFAULTS, ClassifyConfig, ShotsConfig
from fasttail.console import Reporter
from fasttail.errors import UserError, unknown
from fasttail.evaluate.shots import Tally, summarize
from fasttail.plan.labels import class_numbers
from fasttail.shards import Split
from fasttail.shards.table import group_by_class

BLOCK = 16_384  # rows that are computed at once
JOINT = "joint"
WITHOUT_JOINT = ("linear", "crt", "ncm", "balanced-softmax")  # methods that look at its shape only
QUIET = Reporter(quiet=True)
DEFAULT_METHODS = ("crt", "tau", "lws", "ncm", "logit-adjust")

Array = np.ndarray | Tensor


@dataclass(frozen=True)
class LinearHead:
    """A classifier on features [N, D], as they were given to `fit_heads`: what is asked in NumPy is
    answered in NumPy, and torch's in torch, on the features' device.

    `head` says more: `head.note` what was chosen, e.g. tau, and `head.chosen_on` on which split.
    """

    head: Head
    counts_C: np.ndarray  # int64 [C]: a class's training images, for the groups of `report`
    shots: ShotsConfig = DEFAULTS.shots

    def scores(self, features: Array) -> Any:
        """Logits, float32 [N, C]; of `ncm` the closeness to each mean."""
        return _answer(features, list(self._logits(features)))

    def predict(self, features: Array) -> Any:
        """The class of each row, int64 [N]. Logits [N, C] never stand whole."""
        return _answer(features, [logits_BC.argmax(1) for logits_BC in self._logits(features)])

    def report(self, features: Array, labels: Any) -> dict[str, Any]:
        """Accuracies in percent: `all_micro` over images, `all_macro` over classes, and over the
        classes of `many` (above 100 training images), `medium` and `few` (below 20); None for a
        group without images. `worst` and `worst_class`, and `harmonic` over classes."""
        num_classes = len(self.counts_C)
        labels_N = class_numbers(labels, num_classes)
        predicted_N = np.asarray(_tensor(self.predict(features)).cpu())
        if len(predicted_N) != len(labels_N):
            raise UserError(f"{len(predicted_N)} rows of features, but {len(labels_N)} labels")
        return summarize(Tally.of(predicted_N, labels_N, num_classes), self.counts_C, self.shots)

    @property
    def linear(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight [C, D] and bias [C], float32, of one linear layer that predicts the same from the
        features as they are. `UserError` where there is none: a nearest mean by L2 of features
        that were scaled each by its own length."""
        head = self.head
        bias_C = head.bias_C
        if head.transform != "un":
            if bias_C.any():
                raise UserError(f"{head.method} by {head.note} is no linear layer: take its scores")
            # Without a bias a row's own length does not change which of its logits is highest.
            if head.center_D is not None:
                bias_C = -head.weight_CD @ head.center_D
        return head.weight_CD.cpu().numpy(), bias_C.cpu().numpy()

    def _logits(self, features: Array) -> Iterator[Tensor]:
        features_ND = _tensor(features)
        dim = self.head.weight_CD.shape[1]
        if features_ND.ndim != 2 or features_ND.shape[1] != dim:
            raise UserError(
                f"features of shape {list(features_ND.shape)}: these heads take [N, {dim}]"
            )
        head = self.head.to(features_ND.device)
        with torch.inference_mode():
            for rows_BD in features_ND.split(BLOCK):
                yield head.logits(rows_BD)


def fit_heads(
    features: Array,
    labels: Any,
    methods: Iterable[str] = DEFAULT_METHODS,
    *,
    val: tuple[Array, Any] | None = None,
    counts: Any = None,
    classifier: Any = None,
    config: ClassifyConfig | None = None,
    seed: int = DEFAULTS.seed,
    device: torch.device | str | None = None,
) -> dict[str, LinearHead]:
    """Class-balanced classifiers on features of any frozen backbone: method -> its head.

    `features` [N, D] and `labels` [N], 0..C-1, are in NumPy (a memory map too) or torch. `methods`
    are names of `fasttail.classify.METHODS` that need no images, and "joint": the classifier that
    tau, LWS and logit adjustment start from. That one is `classifier`, a `torch.nn.Linear` or
    (weight [C, D], bias [C]); without it, one is trained here, with instance-balanced draws. `val`
    is a second pair (features, labels), which tau is chosen on; without it tau is fixed. `counts`
    int [C] are the classes' training images where `labels` does not show them: for logit adjustment
    and the groups of a report. `config` has each method's settings; unless given, those of
    `fasttail train --stage cls`, with smaller batches for few samples. Arithmetic is done on
    `device`, or else where the features are.

    Raises `UserError` for what does not fit together, and names it.
    """
    methods = list(methods)
    known = [JOINT, *(method for method in METHODS if method not in NEED_IMAGES)]
    for method in methods:
        if method not in known:
            raise unknown("method on features", method, known)
    labels_N = class_numbers(labels)
    num_classes = int(labels_N.max()) + 1
    train = _bank("train", features, labels_N, num_classes, device)
    counts_C = _counts(counts, train.split.counts_C)
    banks = {"train": train}
    if val is not None:
        if not isinstance(val, tuple | list) or len(val) != 2:
            raise UserError("val: give a pair (features, labels)")
        val_labels_N = class_numbers(val[1], num_classes)
        banks["val"] = _bank("val", val[0], val_labels_N, num_classes, train.device)
        if banks["val"].dim != train.dim:
            raise UserError(
                f"val: features have {banks['val'].dim} numbers, those of train {train.dim}"
            )
    for bank in banks.values():
        length(bank)  # refuses what is not finite
    joint = None if classifier is None else _joint(classifier, num_classes, train)
    config = config or for_so_many(DEFAULTS.classify, len(labels_N))
    whole = DEFAULTS.model_copy(update={"classify": config, "seed": seed})

    def fit(job: Job) -> Fitted:
        return fit_at_length(
            job,
            train,
            partial(
                fit_on_bank,
                bank=banks.__getitem__,
                has_val="val" in banks,
                config=whole,
                reporter=QUIET,
            ),
        )

    zeros = torch.zeros(num_classes, train.dim, device=train.device)
    task = Task(
        whole,
        joint or Head(JOINT, zeros, zeros[:, 0]),
        cast(Split, _Table("train", labels_N, counts_C)),
        tuple(banks),
        banks.__getitem__,
        fit,
        QUIET,
    )
    if joint is None and any(method not in WITHOUT_JOINT for method in methods):
        task = replace(task, joint=replace(linear(task), method=JOINT))
    heads = (task.joint if method == JOINT else METHODS[method](task) for method in methods)
    return {head.method: LinearHead(head, counts_C) for head in heads}


@dataclass(frozen=True)
class _Table:
    """What methods look at of a split. Images have no size here."""

    name: str
    labels_N: np.ndarray
    counts_C: np.ndarray

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.counts_C))))

    @cached_property
    def _groups(self) -> tuple[np.ndarray, np.ndarray]:
        return group_by_class(self.labels_N, len(self.counts_C))

    @property
    def indptr_C1(self) -> np.ndarray:
        return self._groups[0]

    @property
    def samples_N(self) -> np.ndarray:
        return self._groups[1]

    @property
    def heights_N(self) -> np.ndarray:
        return np.broadcast_to(np.int32(1), self.labels_N.shape)

    widths_N = sizes_N = heights_N


def _bank(
    name: str,
    features: Array,
    labels_N: np.ndarray,
    num_classes: int,
    device: torch.device | str | None,
) -> Features:
    features_ND = _tensor(features)
    if features_ND.ndim != 2 or not features_ND.shape[1] or not features_ND.is_floating_point():
        raise UserError(
            f"{name}: features are {features_ND.dtype} {list(features_ND.shape)}: give one row of "
            "floating-point numbers a sample, [N, D]"
        )
    if len(features_ND) != len(labels_N):
        raise UserError(
            f"{name}: {len(features_ND)} rows of features, but {len(labels_N)} labels: they go "
            "together one by one"
        )
    table = _Table(name, labels_N, np.bincount(labels_N, minlength=num_classes))
    labels = torch.from_numpy(labels_N).to(device or features_ND.device)
    return Features(cast(Split, table), features_ND, labels)


def _joint(classifier: Any, num_classes: int, train: Features) -> Head:
    if hasattr(classifier, "weight"):  # a Linear may be without a bias
        bias = classifier.bias
        classifier = classifier.weight, torch.zeros(num_classes) if bias is None else bias
    if not isinstance(classifier, tuple | list) or len(classifier) != 2:
        raise UserError("classifier: give a torch.nn.Linear, or a pair (weight, bias)")
    weight_CD, bias_C = (_tensor(values).detach().float().to(train.device) for values in classifier)
    if weight_CD.shape != (num_classes, train.dim) or bias_C.shape != (num_classes,):
        raise UserError(
            f"classifier of weight {list(weight_CD.shape)} and bias {list(bias_C.shape)}: the "
            f"features and labels want [{num_classes}, {train.dim}] and [{num_classes}]"
        )
    return Head(JOINT, weight_CD, bias_C)


def _counts(given: Any, drawn_C: np.ndarray) -> np.ndarray:
    if given is None:
        return drawn_C
    counts_C = np.asarray(given)
    whole = counts_C.shape == drawn_C.shape and counts_C.dtype.kind in "iu"
    if not whole or not (counts_C > 0).all():
        raise UserError(
            f"counts are {counts_C.dtype} {list(counts_C.shape)}: give the training images of each "
            f"of the {len(drawn_C)} classes, all above 0"
        )
    return counts_C.astype(np.int64)


def _tensor(values: Array) -> Tensor:
    """The values as a tensor over the same memory."""
    if isinstance(values, Tensor):
        return values
    with warnings.catch_warnings():
        # Of a read-only map torch warns that it could be written to: nobody does.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return torch.from_numpy(np.asarray(values))
        except (TypeError, ValueError) as error:  # of texts and objects; a view that runs backwards
            raise UserError(
                f"{str(error).split('. ')[0]}: give np.ascontiguousarray(..., np.float32)"
            ) from None


def _answer(asked: Array, parts: Sequence[Tensor]) -> Any:
    answer = torch.cat(list(parts))
    return answer if isinstance(asked, Tensor) else answer.numpy()
