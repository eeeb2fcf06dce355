"""The losses of the first 20 steps on every engine, pinned: a change in the plan, the decoding, the
step or the schedule shows here. They change only with an entry in the changelog.

    python -m pytest tests/train/test_golden.py --write-golden     writes the file again
"""

import json
from pathlib import Path

import numpy as np
import plain
import pytest
from photos import photo

from fasttail import stages
from fasttail.config import ConvertConfig
from fasttail.console import Reporter
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.shards.convert import convert
from fasttail.stages import TrainOptions

GOLDEN = Path(__file__).with_name("golden_losses.json")
ENGINES = ("ffcv", "dali", "resident", "reference")
STEPS = 20
SETTINGS = (
    "model.backbone=plain",
    "optim.epochs=4",
    "optim.batch_size=12",
    "optim.lr=0.1",
    "optim.lr_batch_size=12",
    "optim.warmup_epochs=1",
    "data.px=32",
    "data.train_view=random-resized-crop",
    "data.jitter=[0.4, 0.4, 0.4, 0.1]",
    "compute.amp=fp32",
    "compute.log_every=1",
    "compute.tensorboard=false",
    "compute.report=false",
    "sampler=sqrt",
)


@pytest.fixture(scope="module")
def photo_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty photos in four classes that differ in brightness, stored as JPEG."""
    labels_N = np.repeat(np.arange(4), (30, 15, 10, 5))
    images_NHWC = np.stack(
        [photo(seed, 72, 96) // 2 + 32 * int(label) for seed, label in enumerate(labels_N)]
    ).astype(np.uint8)
    splits = {"train": SplitIndex(ArrayImages(images_NHWC, "photos"), labels_N)}
    index = Index("photos", ("a", "b", "c", "d"), splits, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2))
    out = tmp_path_factory.mktemp("shards") / "photos"
    convert(index, out, ConvertConfig(jobs=1, raw_below_px=0))
    return out


@pytest.mark.parametrize("engine", ENGINES)
def test_the_first_twenty_losses_are_those_that_are_pinned(
    photo_shards: Path,
    tmp_path: Path,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    if engine in ("ffcv", "dali"):
        package = {"ffcv": "ffcv", "dali": "nvidia.dali"}[engine]
        pytest.importorskip(package, reason=f"needs the {engine} extra")
    monkeypatch.setitem(plain.recognizer.BACKBONES, plain.NAME, plain.Plain)
    run = stages.train(
        TrainOptions(
            stage="rep",
            shards=photo_shards,
            run=tmp_path / "run",
            flags={"engine": engine},
            settings=SETTINGS,
        ),
        Reporter(quiet=True),
    )
    lines = [json.loads(line) for line in run.log_path.read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert len(losses) == STEPS
    pinned = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if pytestconfig.getoption("--write-golden"):
        GOLDEN.write_text(json.dumps({**pinned, engine: losses}, indent=1) + "\n")
        pytest.skip("written again")
    # Rounding differs from machine to machine; another batch, crop or rate is ten times further.
    np.testing.assert_allclose(losses, pinned[engine], rtol=2e-3)
    assert np.ptp(losses) > 0.2
