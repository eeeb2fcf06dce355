"""Stage 1 under the official protocol against the authors' loop, written down in plain torch."""

from contextlib import closing
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from fasttail import engines, models, shards, stages
from fasttail.config import TrainConfig
from fasttail.console import Reporter
from fasttail.engines.augment import augment
from fasttail.errors import UserError
from fasttail.plans import stage1_epochs
from fasttail.protocol import settle
from fasttail.stages import TrainOptions
from fasttail.world import World

QUIET = Reporter(quiet=True)
EPOCHS = 3
SMALL = (
    "model.backbone=resnet20",
    "model.trained=last-block",
    f"optim.epochs={EPOCHS}",
    "optim.batch_size=16",
    "optim.lr=0.05",
    "optim.lr_batch_size=16",
    "optim.schedule=cosine",
    "optim.warmup_epochs=0",
    "data.engine=reference",
    "compute.amp=fp32",
    "compute.tensorboard=false",
    "compute.report=false",
)


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / "pretrained.safetensors"
    save_file(models.build("resnet20", 5).state_dict(), path)
    return path


def options(shards_dir: Path, run: Path, init: Path, **changes: object) -> TrainOptions:
    values = {"stage": "rep", "shards": shards_dir, "run": run, "init": str(init)}
    return TrainOptions(**{**values, "settings": SMALL, **changes})  # type: ignore[arg-type]


def the_authors_loop(shards_dir: Path, config: TrainConfig, init: Path) -> models.Recognizer:
    """model.train() for all of the network, the scheduler before the epoch; the epoch that is best
    on val is not looked for here."""
    opened = shards.open(shards_dir)
    split, meta = opened.split("train"), opened.meta
    model = models.build("resnet20", 5)
    model.load_state_dict(load_file(init))
    last_block = model.backbone.get_submodule("layer3")
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(False)
    last_block.requires_grad_(True)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=config.optim.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS, eta_min=0.0)
    epoch_plan, cpu = stage1_epochs(config, split, World()), torch.device("cpu")
    with closing(engines.make("reference", split, device=cpu, threads=1)) as engine:
        for epoch in range(EPOCHS):
            for network in (model.backbone, model.classifier):
                network.train()
            scheduler.step()
            for batch in engine.run(epoch_plan(epoch)):
                images = augment(
                    batch, mean=meta.mean, std=meta.std, dtype=torch.float32, device=cpu
                )
                loss = F.cross_entropy(model(images), batch.labels_B)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model


def test_the_weights_are_those_of_the_authors_loop_a_frozen_batchnorm_s_too(
    blob_shards: Path, tmp_path: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stages.train(
        options(blob_shards, tmp_path / "run", pretrained, flags={"protocol": "official"}), QUIET
    )
    config = settle(run.config, ("train", "val", "test"))
    with pytest.warns(UserWarning, match=r"lr_scheduler\.step\(\)"):
        expected = the_authors_loop(blob_shards, config, pretrained).state_dict()
    last = torch.load(run.checkpoints_dir / "a.state.pt", weights_only=True)["position"]
    slot = "a" if last["epoch"] == EPOCHS else "b"
    trained = load_file(run.checkpoints_dir / f"{slot}.safetensors")
    before = load_file(pretrained)
    for name, value in expected.items():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-5)
    frozen = "backbone.layer1.0.bn1.running_mean"
    assert not torch.equal(trained[frozen], before[frozen])
    clean = stages.train(options(blob_shards, tmp_path / "clean", pretrained), QUIET)
    assert torch.equal(load_file(clean.model_path)[frozen], before[frozen])


def test_one_epoch_at_rate_zero_is_refused_before_there_is_a_run(
    blob_shards: Path, tmp_path: Path, pretrained: Path
) -> None:
    with pytest.raises(UserError, match=r"optim\.epochs is 1, .*--protocol official.* 2 epochs"):
        stages.train(
            options(
                blob_shards,
                tmp_path / "run",
                pretrained,
                flags={"protocol": "official", "epochs": 1},
            ),
            QUIET,
        )
    assert not (tmp_path / "run").exists()
