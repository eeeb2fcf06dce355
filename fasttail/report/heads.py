"""A run's heads and what they say of a split's images, from the features that stage 2 keeps."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fasttail import classify, records
from fasttail.classify import features, sweep
from fasttail.classify.features import Features
from fasttail.classify.head import Head
from fasttail.classify.scoring import WITHOUT_PROBABILITIES, Answers, answers
from fasttail.classify.sweep import Sweep
from fasttail.compute import pick
from fasttail.config import ComputeConfig
from fasttail.errors import UserError
from fasttail.evaluate.calibration import BINS, expected_calibration_error
from fasttail.records import Form
from fasttail.rundir import Run
from fasttail.shards import Shards
from fasttail.train import rep
from fasttail.world import World


@dataclass(frozen=True)
class Reliability:
    """A head's predictions by how sure it is, bins without any left out: how many, its mean
    confidence and its accuracy there, and over all the expected calibration error, in percent."""

    count_K: np.ndarray
    confidence_K: np.ndarray
    accuracy_K: np.ndarray
    ece: float


@dataclass(frozen=True)
class TauCurve:
    """Accuracies over tau, and the split that tau was chosen on."""

    sweep: Sweep
    chosen_on: str | None


def load(run: Run) -> list[Head]:
    """The run's heads, on the CPU. `UserError` if stage 1 is not finished."""
    model = rep.load_model(run, pick(ComputeConfig(device="cpu"), World()))
    return classify.saved_heads(run, model)


class Banks:
    """The features that a run has, for the very model and shards that it has now."""

    def __init__(self, run: Run, shards: Shards) -> None:
        self._run, self._shards = run, shards
        with run.model_path.open("rb") as file:
            self._model_sha256 = hashlib.file_digest(file, "sha256").hexdigest()

    def get(self, split_name: str, head: Head) -> Features | None:
        """The features of a split that a head works on, memory-mapped; None if they are not there
        or of something else."""
        folder, own = self._run.features_dir, head.backbone_digest()
        path = (folder / head.name if own else folder) / f"{split_name}.npy"
        if not path.exists():
            return None
        try:
            made_from = records.read(path.with_suffix(".json"), Form)
        except (UserError, FileNotFoundError):
            return None
        expected = (self._model_sha256, self._shards.digest, own)
        keys = ("model_sha256", "shards_digest", "backbone_sha256")
        if tuple(made_from.get(key, "") for key in keys) != expected:
            return None
        split = self._shards.split(split_name)
        return features.load(path, split, views=1, device=torch.device("cpu"), budget_bytes=0)


def answers_of(heads: Sequence[Head], banks: Banks, split_name: str) -> dict[str, Answers]:
    """By name, what each head answers for the images of a split, as far as its features are
    there."""
    found = {head.name: (head, banks.get(split_name, head)) for head in heads}
    return {name: answers(head, bank) for name, (head, bank) in found.items() if bank}


def reliability(given: Answers, labels_N: np.ndarray) -> Reliability:
    """The bins that the expected calibration error is taken over (Guo et al., ICML 2017)."""
    right_N = given.predicted_N == labels_N
    bin_N = np.clip(np.ceil(given.confidence_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count_K = np.bincount(bin_N, minlength=BINS)
    there_K = count_K > 0
    sums = (np.bincount(bin_N, values, BINS)[there_K] for values in (given.confidence_N, right_N))
    confidence_K, accuracy_K = (100 * total / count_K[there_K] for total in sums)
    ece = 100 * expected_calibration_error(given.confidence_N, right_N)
    return Reliability(count_K[there_K], confidence_K, accuracy_K, ece)


def reliabilities(given: dict[str, Answers], labels_N: np.ndarray) -> dict[str, Reliability]:
    """`reliability` of every head that gives probabilities."""
    return {
        name: reliability(of, labels_N)
        for name, of in given.items()
        if not name.startswith(WITHOUT_PROBABILITIES)
    }


def tau_curve(run: Run, heads: Sequence[Head]) -> TauCurve | None:
    """What stage 2 has written of its tau; None without a tau head, or of one without scores."""
    made = next((head for head in heads if head.method == "tau"), None)
    found = sweep.read(sweep.path(run, made.protocol)) if made is not None else None
    if made is None or found is None:
        return None
    return TauCurve(found, made.chosen_on)
