"""Stage 2 on images: what is trained, what moves, and that the bank sees what the images show."""

import csv
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fasttail import models, rundir, shards, stages
from fasttail.classify import METHODS, Stage, make_heads, saved_heads, score_heads
from fasttail.classify import images as fit_images
from fasttail.classify.fit import epochs_of
from fasttail.classify.head import Head
from fasttail.classify.task import Job
from fasttail.compute import Compute
from fasttail.config import (
    ClassifyConfig,
    ComputeConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    ShotsConfig,
    TrainConfig,
)
from fasttail.console import Reporter
from fasttail.engines.kept import Kept
from fasttail.errors import UserError
from fasttail.evaluate.shots import Tally
from fasttail.models import Recognizer
from fasttail.plans import train_view
from fasttail.stages import TrainOptions
from fasttail.train.checkpoint import save_weights
from fasttail.train.losses import cross_entropy_of_batch
from fasttail.world import World

CPU = Compute(torch.device("cpu"), torch.float32, channels_last=False)


class Small(nn.Module):
    """Images -> 8 features, with BatchNorm before and in the last block."""

    features_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 5, stride=4, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.layer3 = nn.Sequential(nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())

    @property
    def last_block(self) -> nn.Module:
        return self.layer3

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        x = self.layer3(F.relu(self.bn(self.conv(images_BCHW))))
        return F.adaptive_avg_pool2d(x, 2).flatten(1)[:, ::4]


MakeStage = Callable[..., Stage]


@pytest.fixture
def make_stage(blob_shards: Path, tmp_path: Path) -> MakeStage:
    def make(protocol: str = "clean", *, flip: bool = False, **classify: object) -> Stage:
        optim = OptimConfig(epochs=3, batch_size=16, lr=0.1, lr_batch_size=16)
        config = TrainConfig(
            protocol=protocol,  # type: ignore[arg-type]
            data=DataConfig(
                px=32,
                train_view="random-crop" if flip else "whole",
                eval_view="whole",
                flip_p=0.5 if flip else 0.0,
            ),
            classify=ClassifyConfig(crt=optim, lws=optim).model_copy(update=classify),
            compute=ComputeConfig(tensorboard=False),
            shots=ShotsConfig(many_above=15, few_below=6),
        )
        opened = shards.open(blob_shards)
        folder = tmp_path / "-".join(["run", *map(str, classify.values()), protocol, str(flip)])
        run = rundir.create(
            folder,
            config,
            shards_dir=opened.dir,
            shards_digest=opened.digest,
            dataset=opened.name,
            class_names=opened.class_names,
        )
        torch.manual_seed(1)
        model = Recognizer(Small(), nn.Linear(8, 5))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
        save_weights(run.model_path, model.state_dict(), {})
        engines = Kept(config.data, CPU.device)
        return Stage(run, model.eval(), opened, World(), CPU, Reporter(quiet=True), engines)

    return make


def made(stage: Stage, method: str) -> Head:
    before = {name: tensor.clone() for name, tensor in stage.model.state_dict().items()}
    (head,) = make_heads([method], stage)
    after = stage.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    return head


@pytest.mark.parametrize("method", ["crt", "lws", "balanced-softmax"])
def test_images_without_augmentation_give_the_head_that_the_bank_gives(
    make_stage: MakeStage, method: str
) -> None:
    from_images = made(make_stage(features="images"), method)
    from_bank = made(make_stage(features="bank"), method)
    assert from_images.backbone is None
    torch.testing.assert_close(from_images.weight_CD, from_bank.weight_CD, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(from_images.bias_C, from_bank.bias_C, atol=1e-5, rtol=1e-5)
    augmented = made(make_stage(features="images", flip=True), method)
    assert (augmented.weight_CD - from_bank.weight_CD).abs().max() > 2e-3


def test_random_views_make_the_bank_another_and_the_heads_too(make_stage: MakeStage) -> None:
    one = make_stage(flip=True)
    three = make_stage(views=3, flip=True)
    assert len(three.bank("train")) == 3 * len(one.bank("train")) == 3 * 78
    assert len(three.bank("test")) == 40
    assert not torch.equal(made(one, "crt").weight_CD, made(three, "crt").weight_CD)


def test_a_bank_of_another_view_is_made_again(make_stage: MakeStage) -> None:
    stage = make_stage()
    whole = stage.bank("test").features_ND.clone()

    def with_data(**data: object) -> Stage:
        config = stage.run.config
        changed = config.data.model_copy(update=data)
        return replace(
            stage, run=stage.run.with_config(config.model_copy(update={"data": changed}))
        )

    middle = with_data(eval_view="center", resize_px=40).bank("test").features_ND.clone()
    assert (middle - whole).abs().max() > 0.01
    torch.testing.assert_close(with_data().bank("test").features_ND, whole)


def test_the_best_epoch_is_by_images_and_not_by_classes(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three epochs: the second is best over images, the third over classes.
    by_images = [10, 0, 0, 0, 0], [90, 1, 0, 0, 0], [60, 4, 4, 4, 4]
    tallies = (Tally(np.array(hits), np.array([100, 4, 4, 4, 4])) for hits in by_images)
    monkeypatch.setattr(fit_images, "score", lambda *_, **__: next(tallies))
    head = made(make_stage(features="images", keep="best"), "crt")
    assert head.note == "epoch 2"


@pytest.mark.parametrize("method", ["crt", "lws"])
def test_batchnorm_in_train_mode_moves_its_statistics_and_nothing_else(
    make_stage: MakeStage, method: str
) -> None:
    stage = make_stage(features="images", batchnorm="train")
    head = made(stage, method)
    assert head.backbone is not None
    assert {name.rpartition(".")[2] for name in head.backbone} == {
        "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    own = head.model(stage.model)
    assert int(own.backbone.get_submodule("bn").num_batches_tracked) == 3 * (78 // 16)  # type: ignore[arg-type]


def test_the_statistics_are_those_of_batch_after_batch(make_stage: MakeStage) -> None:
    """The authors call model.train() on the whole network: new = 0.9 old + 0.1 of the batch."""
    stage = make_stage(features="images", batchnorm="train")
    stage = replace(
        stage,
        run=stage.run.with_config(
            stage.config.model_copy(
                update={
                    "classify": stage.config.classify.model_copy(
                        update={
                            "crt": OptimConfig(epochs=1, batch_size=78, lr=0.1, lr_batch_size=78)
                        }
                    )
                }
            )
        ),
    )
    head = made(stage, "crt")
    assert head.backbone is not None
    split = stage.shards.split("train")
    weight = stage.model.backbone.get_submodule("conv").weight.detach().double().numpy()  # type: ignore[union-attr, operator]
    job = Job("", nn.Linear(1, 1), stage.config.classify.crt, "class", cross_entropy_of_batch())
    plan = epochs_of(job, stage.config, split, train_view(stage.config.data), World())(0)
    meta = stage.shards.meta
    outputs = []
    for i in plan.batch(0).ids_B:
        pixels = (split.bytes(i).reshape(32, 32, 3) / 255 - meta.mean) / meta.std
        patches = np.lib.stride_tricks.sliding_window_view(pixels, (5, 5), (0, 1))[::4, ::4]
        outputs.append(np.einsum("hwcij,ocij->ohw", patches, weight))
    mean_C = np.stack(outputs).mean((0, 2, 3))
    before = stage.model.backbone.get_submodule("bn").running_mean.numpy()  # type: ignore[union-attr, operator]
    expected = 0.9 * before + 0.1 * mean_C
    np.testing.assert_allclose(head.backbone["bn.running_mean"], expected, atol=1e-5)
    assert np.abs(expected - before).max() > 1e-3


def test_the_last_block_is_trained_at_its_own_rate_and_kept_with_the_head(
    make_stage: MakeStage,
) -> None:
    stage = make_stage()
    head = made(stage, "crt-last-block")
    assert head.backbone is not None
    assert {name.split(".")[0] for name in head.backbone} == {"layer3"}
    saved = Head.load(stage.run.head_path("crt-last-block"))
    assert saved.backbone is not None
    assert all(torch.equal(head.backbone[name], saved.backbone[name]) for name in head.backbone)
    faster = made(make_stage(block_lr_scale=1.0), "crt-last-block")
    assert faster.backbone is not None
    before = stage.model.backbone.state_dict()["layer3.0.weight"]
    moved, further = (
        (h.backbone["layer3.0.weight"] - before).norm().item()  # type: ignore[index]
        for h in (head, faster)
    )
    assert 0 < 3 * moved < further


def test_a_head_with_a_block_of_its_own_is_scored_on_features_of_its_own(
    make_stage: MakeStage,
) -> None:
    stage = make_stage()
    head = made(stage, "crt-last-block")
    own, shared = stage.bank("test", head), stage.bank("test")
    assert not torch.equal(own.features_ND, shared.features_ND)
    images, right = [], 0
    split, meta = stage.shards.split("test"), stage.shards.meta
    for i in range(len(split)):
        pixels = (split.bytes(i).reshape(32, 32, 3) / 255 - meta.mean) / meta.std
        images.append(torch.from_numpy(pixels).permute(2, 0, 1).float())
    model = head.model(stage.model)
    logits_NC = model.backbone(torch.stack(images)) @ head.weight_CD.T + head.bias_C
    right = int((logits_NC.argmax(1).numpy() == split.labels_N).sum())
    (row,) = score_heads([head], stage, "test")
    assert row["all_micro"] == pytest.approx(100 * right / 40, abs=2.6)
    assert row["images"] == 40


def test_stored_features_with_moving_statistics_are_refused(make_stage: MakeStage) -> None:
    with pytest.raises(UserError, match="take it with --features images"):
        list(make_heads(["crt"], make_stage(batchnorm="train")))


def test_the_best_epoch_on_val_is_kept_and_named(make_stage: MakeStage) -> None:
    best = made(make_stage(keep="best"), "crt")
    assert best.chosen_on == "val"
    assert best.note.startswith("epoch ")
    last = made(make_stage(), "crt")
    assert (last.note, last.chosen_on) == ("", None)


def test_every_method_is_made_and_scored_under_the_official_protocol(
    make_stage: MakeStage,
) -> None:
    stage = make_stage("official", flip=True)
    heads = list(make_heads(list(METHODS), stage))
    rows = {row["method"]: row for row in score_heads(heads, stage, "test")}
    assert set(rows) == set(METHODS)
    assert rows["tau"]["note"].endswith("chosen on this split, test")
    assert rows["tau"]["chosen_on"] == "test"
    assert rows["crt"]["chosen_on"] == "val"
    assert rows["ncm"]["note"] == "cl2n, l2"
    assert rows["ncm"]["ece"] is None
    assert all(row["ece"] is not None for name, row in rows.items() if name != "ncm")
    table = (stage.run.dir / "per_class.csv").read_text().splitlines()
    assert table[0].split(",")[6:] == [f"{method}-official" for method in METHODS]
    assert table[1].startswith("test,0,blob 0,40,many,8,")


def test_two_processes_train_on_images_to_the_head_of_one(
    blob_shards: Path, tmp_path: Path
) -> None:
    opened = shards.open(blob_shards)
    optim = OptimConfig(epochs=1, batch_size=16, lr=0.1, lr_batch_size=16)
    config = TrainConfig(
        data=DataConfig(px=32, train_view="random-crop", eval_view="whole"),
        model=ModelConfig(backbone="resnet20"),
        classify=ClassifyConfig(crt=optim, lws=optim, features="images"),
        compute=ComputeConfig(tensorboard=False, amp="fp32"),
    )
    torch.manual_seed(0)
    model = models.build("resnet20", 5)
    for name in ("one", "two"):
        run = rundir.create(
            tmp_path / name,
            config,
            shards_dir=opened.dir,
            shards_digest=opened.digest,
            dataset=opened.name,
            class_names=opened.class_names,
        )
        save_weights(run.model_path, model.state_dict(), {})
    asked = ["--stage", "cls", "--method", "crt,lws"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "fasttail", "train"),
            *("--run-dir", str(tmp_path / "two"), *asked),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    options = TrainOptions(stage="cls", run=tmp_path / "one", method="crt,lws")
    stages.train(options, Reporter(quiet=True))
    for method in ("crt", "lws"):
        one, two = (
            Head.load(tmp_path / name / "heads" / f"{method}.safetensors")
            for name in ("one", "two")
        )
        assert one.backbone is two.backbone is None
        torch.testing.assert_close(two.weight_CD, one.weight_CD, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(two.bias_C, one.bias_C, atol=1e-5, rtol=1e-4)


def test_heads_of_both_protocols_stand_apart_in_one_run(make_stage: MakeStage) -> None:
    stage = make_stage(features="images")
    official = stage.run.config.model_copy(update={"protocol": "official"})
    by_official = replace(stage, run=stage.run.with_config(official))
    clean_crt, official_crt = made(stage, "crt"), made(by_official, "crt")
    assert not torch.equal(clean_crt.weight_CD, official_crt.weight_CD)
    for either in (stage, by_official):  # whichever the command was given, the rows are the same
        heads = saved_heads(either.run, either.model)
        assert [head.name for head in heads] == ["joint", "crt", "crt-official"]
        rows = score_heads(heads, either, "test")
        assert [row["protocol"] for row in rows] == ["clean", "clean", "official"]
        torch.testing.assert_close(heads[1].weight_CD, clean_crt.weight_CD)
        torch.testing.assert_close(heads[2].weight_CD, official_crt.weight_CD)
    stage.run.add_rows(rows)
    stage.run.add_rows(score_heads(heads[2:], stage, "test"))
    kept = [(row["method"], row["protocol"]) for row in stage.run.rows()]
    assert kept == [("joint", "clean"), ("crt", "clean"), ("crt", "official")]
    with (stage.run.dir / "per_class.csv").open() as file:
        assert next(csv.reader(file))[-3:] == ["joint", "crt", "crt-official"]
