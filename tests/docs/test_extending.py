"""The code on the page about extending fasttail, run as it stands."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file

from fasttail import cli, engines, shards, stages
from fasttail.classify import METHODS
from fasttail.classify.head import Head
from fasttail.engines import ENGINES
from fasttail.engines.survey import survey
from fasttail.plan import TrainEpoch, View
from fasttail.plan.samplers import SAMPLERS
from fasttail.recipes import reference
from fasttail.train.losses import LOSSES

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


@pytest.fixture
def extended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """fasttail with the page's sampler, data set, engine and head, in a folder of their own."""
    before = [(table, dict(table)) for table in (SAMPLERS, ENGINES, METHODS)]
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), {"__name__": "extending"})
    yield
    monkeypatch.undo()  # before the tables are restored, or it would put back what a test took out
    for table, content in before:
        table.clear()
        table.update(content)


def test_there_is_one_of_each() -> None:
    assert len(BLOCKS) == 5
    assert all(len(block.splitlines()) < 40 for block in BLOCKS)


@pytest.mark.usefixtures("extended")
def test_the_data_set_is_converted() -> None:
    opened = shards.open("shards/squares")
    assert opened.class_names == ("dark", "bright")
    assert opened.split("train").counts_C.tolist() == [40, 10]


@pytest.mark.usefixtures("extended")
def test_the_engine_gives_the_pixels_of_the_reference(blob_shards: Path) -> None:
    split = shards.open(blob_shards).split("train")
    p_C = SAMPLERS["inverse"](split.counts_C, 0.0)
    assert p_C.argmax() == split.counts_C.argmin()
    view = View.random_resized_crop(24, scale=(0.2, 1.0), ratio=(0.75, 1.33), flip_p=0.5)
    plan = TrainEpoch(split, p_C=p_C, view=view, seed=0, epoch=0, batch_size=16)
    made = [
        engines.make(n, split, device=torch.device("cpu"), threads=1)
        for n in ("cached", "reference")
    ]
    for own, expected in zip(*(engine.run(plan) for engine in made), strict=True):
        assert torch.equal(own.images_BHWC, expected.images_BHWC)
        assert torch.equal(own.labels_B, expected.labels_B)
        assert own.images_BHWC.float().std() > 1
    for engine in made:
        engine.close()


@pytest.mark.usefixtures("extended")
def test_the_survey_tries_the_engine_and_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for slow in ("dali", "ffcv", "resident"):
        monkeypatch.delitem(ENGINES, slow)
    (own,) = [one for one in survey(torch.device("cpu")) if one.engine == "cached"]
    assert own.works
    assert own.note == "Decodes each image once and keeps it in main memory."

    class Typo:
        def __init__(self, *_: object) -> None:
            self.device = split  # type: ignore[name-defined] # noqa: F821

    monkeypatch.setitem(ENGINES, "cached", Typo)  # type: ignore[arg-type]
    (own,) = [one for one in survey(torch.device("cpu")) if one.engine == "cached"]
    assert (own.works, own.installed) == (False, True)
    assert own.note == "NameError: name 'split' is not defined"


@pytest.mark.usefixtures("extended")
def test_help_and_the_list_of_keys_have_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def train_options() -> dict[str, str]:
        command = typer.main.get_command(cli.app).get_command(None, "train")  # type: ignore[attr-defined]
        return {option.name: option.help for option in command.params}

    help_of, keys = train_options(), {row["key"]: row["description"] for row in reference()}
    for option, key, name in (
        ("sampler", "sampler", "inverse"),
        ("engine", "data.engine", "cached"),
        ("method", None, "rescaled"),
    ):
        assert help_of[option].endswith(f"; added: {name}")
        assert key is None or keys[key].endswith(f"; added: {name}")
    assert keys["classify.sampler"].endswith("; added: inverse")
    monkeypatch.setitem(LOSSES, "mine", lambda logits_BC, labels_B, classes: logits_BC)
    assert train_options()["loss"].endswith("; added: mine")
    assert "added" not in help_of["epochs"]


@pytest.mark.usefixtures("extended")
def test_sampler_engine_and_head_train_together(blob_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ("optim.batch_size=16", "model.backbone=resnet20", "compute.report=false")
    stages.train(
        stages.TrainOptions(
            stage="rep",
            shards=blob_shards,
            run=run,
            flags={"sampler": "inverse", "engine": "cached", "epochs": 1},
            settings=small,
        )
    )
    own = ("own.rescaled.exponent=0.5",)
    stages.train(stages.TrainOptions(stage="cls", run=run, method="rescaled", settings=own))
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    found = {row["method"]: row for row in rows if row["split"] == "test"}
    assert found["rescaled"]["note"] == "exponent 0.5"
    joint_CD = load_file(run / "model.safetensors")["classifier.weight"]
    head = Head.load(run / "heads" / "rescaled.safetensors")
    counts_C = torch.tensor(shards.open(blob_shards).split("train").counts_C)
    torch.testing.assert_close(
        head.weight_CD.norm(dim=1) / joint_CD.norm(dim=1), (counts_C.max() / counts_C) ** 0.5
    )
