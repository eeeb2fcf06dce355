"""The snippets of docs/export.md, run as they stand there."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from photos import photo
from PIL import Image

from fasttail import stages
from fasttail.compute import pick
from fasttail.config import ComputeConfig, ConvertConfig, DataConfig
from fasttail.console import Reporter
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.export.classifiers import load_model
from fasttail.export.command import export
from fasttail.export.predict import predictions
from fasttail.rundir import Run
from fasttail.shards.convert import convert
from fasttail.stages import TrainOptions
from fasttail.world import World

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
CLASSES, IMAGES = 6, 143
SETTINGS = (
    "model.backbone=resnet20",
    "data.px=32",
    "data.resize_px=37",
    "data.train_view=random-resized-crop",
    "data.eval_view=center",
    "optim.epochs=4",
    "optim.batch_size=16",
    "optim.lr=0.05",
    "optim.lr_batch_size=16",
    "optim.warmup_epochs=0",
    "compute.amp=fp32",
    "compute.tensorboard=false",
    "compute.report=false",
)
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def coloured(seed: int, height: int, width: int) -> np.ndarray:
    """A photo whose class shows in its colours, more or less."""
    image = photo(seed, height, width).astype(np.float64)
    image[..., seed % 3] *= 0.55 + 0.3 * (seed % CLASSES // 3) + 0.1 * np.sin(seed)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    labels_N = np.arange(96) % CLASSES
    pixels_NHWC = np.stack([coloured(seed, 70, 80) for seed in range(96)])
    splits = {"train": SplitIndex(ArrayImages(pixels_NHWC, "x"), labels_N)}
    names = tuple(f"class {c}" for c in range(CLASSES))
    index = Index("photos", names, splits, (0.4,) * 3, (0.25,) * 3)
    folder = tmp_path_factory.mktemp("photos")
    convert(index, folder / "shards", ConvertConfig(jobs=1))
    options = TrainOptions(
        stage="rep", shards=folder / "shards", run=folder / "run", settings=SETTINGS
    )
    return stages.train(options, Reporter(quiet=True))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """JPEGs of all sizes, odd and even, of both chroma samplings."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    paths = [folder / f"{seed:03d}.jpg" for seed in range(IMAGES)]
    for seed, path in enumerate(paths):
        height, width = rng.integers(40, 200, 2)
        image = Image.fromarray(coloured(1000 + seed, height, width))
        image.save(path, quality=int(rng.integers(70, 96)), subsampling=int(seed % 3))
    return [str(path) for path in paths]


@pytest.mark.parametrize(
    ("needs", "to"), [("onnxruntime", "onnx"), ("torchvision", "pt2")], ids=["onnx", "torchvision"]
)
def test_a_snippet_gives_the_class_that_predict_gives_for_every_image(
    run: Run, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: str, to: str
) -> None:
    pytest.importorskip(needs)
    (snippet,) = [snippet for snippet in SNIPPETS if f'"joint.{to}"' in snippet]
    assert "fasttail." not in snippet.replace('"fasttail.json"', ""), "it needs no fasttail"
    export(run.dir, "joint", to, tmp_path / f"joint.{to}", Reporter(quiet=True))
    state = export(run.dir, "joint", "state", tmp_path / "joint.safetensors", Reporter(quiet=True))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Callable[[str], str]] = {}
    exec(snippet, names)
    theirs = [names["label"](path) for path in files]

    model = load_model(state, pick(ComputeConfig(amp="fp32", device="cpu"), World()))
    found = predictions(model, files, 1, DataConfig())
    ours = [model.about.class_names[one.labels[0]] for one in found]
    assert theirs == ours
    assert len(ours) == IMAGES
    assert len(set(ours)) >= 3, "the network tells images apart"
