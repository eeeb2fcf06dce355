"""`fasttail predict`: images in, names and probabilities out, in the order the images came."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from fasttail.compute import pick
from fasttail.config import ComputeConfig, ConvertConfig, DataConfig
from fasttail.console import Reporter
from fasttail.errors import UserError, printable
from fasttail.export.classifiers import Classifier, RunClassifier, load_model
from fasttail.export.images import batches, find
from fasttail.export.source import load_run
from fasttail.world import World


@dataclass(frozen=True)
class Prediction:
    """One image's best classes, best first; or none of it, and why. `values` are probabilities, or
    scores where the method gives no probabilities (NCM)."""

    path: str
    labels: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    bad: str = ""


@torch.inference_mode()
def predictions(
    classifier: Classifier, paths: Iterable[str], topk: int, data: DataConfig
) -> Iterator[Prediction]:
    """A prediction for every file, in their order; the `topk` best classes, or all if there are
    fewer."""
    about = classifier.about
    topk = min(topk, len(about.class_names))
    with closing(
        batches(
            paths,
            about.files.rule(),
            about.eval_view(),
            batch_size=data.eval_batch_size,
            threads=data.threads,
            timeout_s=ConvertConfig().image_timeout_s,
        )
    ) as chunks:
        for chunk in chunks:
            best: Iterator[tuple[list[float], list[int]]] = iter(())
            if chunk.batch is not None:
                logits_BC = classifier(chunk.batch).float()
                values_BC = logits_BC.softmax(1) if about.outputs == "logits" else logits_BC
                top = values_BC.topk(topk)
                best = zip(top.values.tolist(), top.indices.tolist(), strict=True)
            for photo in chunk.photos:
                if photo.stored is None:
                    yield Prediction(photo.path, bad=photo.reason)
                else:
                    values, labels = next(best)
                    yield Prediction(photo.path, tuple(labels), tuple(values))


def predict(
    images: Sequence[str],
    *,
    run: Path | None = None,
    method: str | None = None,
    model: Path | None = None,
    topk: int,
    as_json: bool,
    stdin: BinaryIO | None = None,
) -> int:
    """Prints a line (or a JSON object) for every image, and on stderr one for each that is none.
    Returns how many were none.

    Raises `UserError` for a run, method or model file that is not there.
    """
    if topk < 1:
        raise UserError(f"--topk {topk}: at least 1")
    classifier, data = _classifier(run, method, model)
    names = classifier.about.class_names
    key = "probability" if classifier.about.outputs == "logits" else "score"
    bad = 0
    for found in predictions(classifier, find(images, stdin or sys.stdin.buffer), topk, data):
        if found.bad:
            bad += 1
            print(f"fasttail: {printable(found.path)}: {found.bad}", file=sys.stderr, flush=True)
            continue
        best = [
            {"class": names[label], "label": label, key: value}
            for label, value in zip(found.labels, found.values, strict=True)
        ]
        line = json.dumps({"path": found.path, "top": best}) if as_json else None
        _print(line or _line(found.path, best))
    return bad


def _classifier(
    run: Path | None, method: str | None, model: Path | None
) -> tuple[Classifier, DataConfig]:
    if model is None:
        trained = load_run(run, method, None)
        if method is None:
            Reporter().say(f"{trained.run.dir}: {trained.about.method}")
        return RunClassifier(trained), trained.run.config.data
    if run is not None or method is not None:
        raise UserError("--model is a whole classifier: leave out --run and --method")
    return load_model(model, pick(ComputeConfig(amp="fp32"), World.from_env())), DataConfig()


def _line(path: str, best: Sequence[dict[str, Any]]) -> str:
    """`a.jpg: oak 91.2 %, birch 5.1 %`; scores stand as they are."""
    shown = [
        f"{entry['class']} {entry['score']:.3f}"
        if "score" in entry
        else f"{entry['class']} {100 * entry['probability']:.1f} %"
        for entry in best
    ]
    return f"{printable(path)}: {', '.join(shown)}"


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
