"""Stage 2 on a network that others have trained: a small one of timm's, its weights in a file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from safetensors.torch import load_file, save_file

from fasttail import fit_heads, models, rundir, shards, stages
from fasttail.console import Reporter
from fasttail.errors import UserError
from fasttail.export.command import export
from fasttail.export.formats import load_state
from fasttail.report.collect import collect
from fasttail.rundir import Run
from fasttail.shards import Split
from fasttail.stages import TrainOptions

timm = pytest.importorskip("timm", reason="needs the timm extra")

NAME = "mobilenetv3_small_050"
QUIET = Reporter(quiet=True)
PLAIN = (
    "compute.amp=fp32",
    "compute.report=false",
    "data.eval_batch_size=16",
    "classify.crt.batch_size=8",
    "classify.crt.epochs=3",
    "classify.lws.batch_size=8",
)
METHODS = ["linear", "crt", "lws", "tau", "ncm", "logit-adjust", "balanced-softmax"]


def options(shards_dir: Path, run: Path, **changes: object) -> TrainOptions:
    values = {
        "stage": "cls",
        "shards": shards_dir,
        "run": run,
        "flags": {"backbone": f"timm:{NAME}"},
        "settings": PLAIN,
        **changes,
    }
    return TrainOptions(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def donor() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(NAME, pretrained=False, num_classes=11).eval()


@pytest.fixture(scope="module")
def file(donor: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("theirs") / "weights.safetensors"
    save_file(donor.state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def run(blob_shards: Path, file: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Heads from whole images of 64 px, where the network's own size would be slower."""
    settings = (*PLAIN, "data.px=64", "data.resize_px=64")
    directory = tmp_path_factory.mktemp("runs") / "frozen"
    return stages.train(options(blob_shards, directory, init=file, settings=settings), QUIET)


def pixels(split: Split) -> torch.Tensor:
    """uint8 [N, 3, H, W], out of shards that hold pixels."""
    size = int(split.heights_N[0]), int(split.widths_N[0])
    images = [np.asarray(split.bytes(i)).reshape(*size, 3) for i in range(len(split))]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def test_every_head_stands_on_a_frozen_backbone_and_the_probe_in_the_place_of_joint(
    run: Run,
) -> None:
    rows = run.rows()
    assert [row["method"] for row in rows if row["split"] == "test"] == METHODS
    assert {row["split"] for row in rows} == {"val", "test"}
    saved = load_file(run.model_path)
    assert all(name.startswith("backbone.") for name in saved), "nobody trained a joint classifier"


def test_the_network_sees_images_normalised_as_it_expects(
    run: Run, donor: torch.nn.Module, blob_shards: Path
) -> None:
    about = json.loads((run.dir / "run.json").read_text())
    own = donor.pretrained_cfg
    assert about["config"]["data"]["mean"] == list(own["mean"])
    assert about["config"]["data"]["std"] == list(own["std"])
    assert about["frozen"]["interpolation"] == own["interpolation"] == "bicubic"
    split = shards.open(blob_shards).split("test")
    images = tv.resize(pixels(split).float(), [64, 64], antialias=True).round() / 255
    mean, std = (torch.tensor(own[key])[:, None, None] for key in ("mean", "std"))
    with torch.inference_mode():
        expected_ND = donor.forward_head(
            donor.forward_features((images - mean) / std), pre_logits=True
        )
    got_ND = np.load(run.features_dir / "test.npy")
    scale = float(expected_ND.abs().max())
    np.testing.assert_allclose(got_ND, expected_ND.numpy(), atol=0.02 * scale)


def test_its_own_size_and_crop_are_taken_unless_said_otherwise(
    blob_shards: Path, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = stages.train(
        options(blob_shards, tmp_path / "own", init=file, method="ncm"), Reporter()
    ).config.data
    said = capsys.readouterr()
    text = " ".join((said.out + said.err).split())
    assert (whole.px, whole.resize_px, whole.eval_view) == (224, 256, "center")
    assert "tensors loaded" in text
    assert "2 of another shape and left out" in text, "what did not match is named"
    assert "224 px, the middle of 256, mean 0.485 0.456 0.406" in text
    assert "names bicubic interpolation; images are resized bilinear here" in text
    flags = {"backbone": f"timm:{NAME}", "px": 96}
    settings = (*PLAIN, "data.mean=[0.1, 0.2, 0.3]")
    changed = stages.train(
        options(
            blob_shards, tmp_path / "set", init=file, method="ncm", flags=flags, settings=settings
        ),
        Reporter(),
    ).config.data
    assert (changed.px, changed.resize_px, changed.mean) == (96, 110, (0.1, 0.2, 0.3))
    assert changed.std == whole.std
    said = capsys.readouterr()
    assert "but for data.px, data.resize_px, data.mean" in " ".join((said.out + said.err).split())


def test_features_are_extracted_again_for_another_normalisation(
    blob_shards: Path, file: str, tmp_path: Path
) -> None:
    settings = (*PLAIN, "data.px=64")
    run = stages.train(
        options(blob_shards, tmp_path / "run", init=file, method="ncm", settings=settings), QUIET
    )
    before = np.load(run.features_dir / "test.npy")
    again = TrainOptions(
        stage="cls", run=run.dir, method="ncm", settings=("data.mean=[0.9, 0.9, 0.9]",)
    )
    stages.train(again, QUIET)
    assert not np.array_equal(np.load(run.features_dir / "test.npy"), before)


def test_the_heads_are_those_of_fit_heads_on_the_same_features(run: Run, blob_shards: Path) -> None:
    opened = shards.open(blob_shards)
    banks = {
        name: (np.load(run.features_dir / f"{name}.npy"), np.array(opened.split(name).labels_N))
        for name in ("train", "val")
    }
    asked = ("linear", "crt", "lws", "tau", "logit-adjust")
    expected = fit_heads(*banks["train"], asked, val=banks["val"], config=run.config.classify)
    for method in asked:
        weight_CD = load_file(run.head_path(method))["weight"].numpy()
        np.testing.assert_allclose(weight_CD, expected[method].linear[0], rtol=1e-4, atol=1e-5)


def test_a_report_an_evaluation_and_an_export_work_on_it(run: Run, blob_shards: Path) -> None:
    again = stages.evaluate(run.dir, "test", QUIET)
    assert again == [row for row in run.rows() if row["split"] == "test"]
    view = collect(run.dir)
    assert not view.missing
    assert next(iter(view.norms)) == "linear"
    assert view.worst
    network, about = load_state(export(run.dir, "linear", "state", None, QUIET))
    assert about.mean == run.config.data.mean
    split = shards.open(blob_shards).split("test")
    images = tv.resize(pixels(split).float(), [64, 64], antialias=True).round() / 255
    right = float((network(images).argmax(1).numpy() == split.labels_N).mean())
    row = next(row for row in again if row["method"] == "linear")
    assert 100 * right == pytest.approx(row["all_micro"], abs=2.6), "one image of 40"


def test_another_method_starts_from_the_probe_that_is_there(
    blob_shards: Path, file: str, tmp_path: Path
) -> None:
    settings = (*PLAIN, "data.px=64")
    first = options(blob_shards, tmp_path / "a", init=file, method="tau", settings=settings)
    run = stages.train(first, QUIET)
    assert {row["method"] for row in run.rows()} == {"linear", "tau"}
    probe = run.head_path("linear").read_bytes()
    stages.train(TrainOptions(stage="cls", run=run.dir, method="lws"), QUIET)
    assert run.head_path("linear").read_bytes() == probe
    resumed = options(blob_shards, run.dir, init=file, method="ncm", settings=settings, resume=True)
    assert {row["method"] for row in stages.train(resumed, QUIET).rows()} == {
        *("linear", "tau", "lws", "ncm")
    }
    with pytest.raises(UserError, match="already exists: continue it with --resume"):
        stages.train(first, QUIET)
    other = options(blob_shards, run.dir, flags={"backbone": "resnet20"}, resume=True)
    with pytest.raises(UserError, match="started with another network"):
        stages.train(other, QUIET)
    with pytest.raises(UserError, match="there is no stage 1, its backbone is frozen"):
        stages.train(TrainOptions(stage="rep", run=run.dir, resume=True), QUIET)


def test_a_file_without_the_classifier_is_a_frozen_backbone_too(
    blob_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.build("resnet20", 3)
    save_file(model.backbone.state_dict(), tmp_path / "backbone.safetensors")
    run = stages.train(
        options(
            blob_shards,
            tmp_path / "run",
            init=str(tmp_path / "backbone.safetensors"),
            flags={},
            method="ncm",
            settings=(*PLAIN, "model.backbone=resnet20"),
        ),
        Reporter(),
    )
    assert {row["method"] for row in run.rows()} == {"linear", "ncm"}
    assert run.config.data.mean is None, "nobody knows better than the shards"
    said = capsys.readouterr()
    assert "trained on is not known" in " ".join((said.out + said.err).split())


def test_what_would_leave_the_backbone_at_random_weights_leaves_no_run(
    blob_shards: Path, donor: torch.nn.Module, tmp_path: Path
) -> None:
    part = dict(list(donor.state_dict().items())[:-20])
    save_file(part, tmp_path / "part.safetensors")
    mistakes = {
        "tensors of the backbone are not in it": {"init": str(tmp_path / "part.safetensors")},
        "its weights would be random": {"flags": {"backbone": "resnet20"}},
        "are timm:mobilenetv3_small_050, ": {"flags": {"backbone": "timm:mobilenetv3_smal_050"}},
        "no weights there": {"init": str(tmp_path / "missing.safetensors")},
    }
    for message, changes in mistakes.items():
        with pytest.raises(UserError, match=message):
            stages.train(options(blob_shards, tmp_path / "run", **changes), QUIET)
        assert not (tmp_path / "run").exists()


def test_a_hub_that_cannot_be_reached_is_said_with_what_to_do(
    blob_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(name: str, **given: object) -> torch.nn.Module:
        if given["pretrained"]:
            raise OSError("We cannot reach the Hub")
        return create(name, **given)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match=r"could not fetch the weights .* give --init the file"):
        stages.train(options(blob_shards, tmp_path / "run"), QUIET)
    assert not (tmp_path / "run").exists()


def test_a_run_on_a_frozen_backbone_can_be_another_ones_start(run: Run, tmp_path: Path) -> None:
    other = stages.train(
        TrainOptions(stage="cls", run=tmp_path / "b", init=str(run.dir), method="ncm"), QUIET
    )
    assert {row["method"] for row in other.rows()} == {"linear", "ncm"}
    assert rundir.open_run(other.dir).frozen == run.frozen
