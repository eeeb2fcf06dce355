"""The weights that a run starts from (`--init`): they are the run's own from its beginning."""

from pathlib import Path

import plain
import pytest
import torch
from safetensors.torch import load_file

from fasttail import rundir, stages
from fasttail.console import Reporter
from fasttail.errors import UserError
from fasttail.rundir import Run
from fasttail.stages import TrainOptions
from fasttail.train.step import Step

SMALL = (
    "model.backbone=plain",
    "optim.epochs=2",
    "optim.batch_size=8",
    "optim.lr=0.05",
    "optim.lr_batch_size=8",
    "optim.warmup_epochs=0",
    "compute.amp=fp32",
    "compute.tensorboard=false",
    "compute.report=false",
)
FROZEN = (*SMALL, "model.trained=classifier")
QUIET = Reporter(quiet=True)


class Killed(Exception):
    """Stands for a kill."""


def fails(*_: object, **__: object) -> None:
    raise Killed


@pytest.fixture(autouse=True)
def _plain_network_and_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plain.recognizer.BACKBONES, plain.NAME, plain.Plain)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def donor(blob_shards: Path) -> Path:
    """Weights of another training, as a file."""
    run = train(blob_shards, "donor", settings=(*SMALL, "seed=7"))
    return run.model_path.rename("donor.safetensors")


def train(shards: Path, run: str, **changes: object) -> Run:
    values = {"stage": "rep", "shards": shards, "run": Path(run), "settings": SMALL}
    return stages.train(TrainOptions(**{**values, **changes}), QUIET)  # type: ignore[arg-type]


def weights(path: Path) -> dict[str, torch.Tensor]:
    # Copies: what is read is mapped, and a file may be written over.
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], part: str = "") -> bool:
    names = [name for name in a if name.startswith(part)]
    return bool(names) and all(torch.equal(a[name], b[name]) for name in names)


@pytest.mark.parametrize("source", ["there", "changed", "gone"])
def test_a_run_killed_before_its_first_checkpoint_goes_on_from_the_weights_it_was_given(
    blob_shards: Path, donor: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    given = weights(donor)
    whole = train(blob_shards, "whole", init=str(donor), settings=FROZEN)
    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", fails)
        with pytest.raises(Killed):
            train(blob_shards, "cut", init=str(donor), settings=FROZEN)
    assert not (Path("cut") / "checkpoints").exists(), "no checkpoint is there to go on from"
    if source == "changed":
        donor.write_bytes(whole.model_path.read_bytes())
    if source == "gone":
        donor.unlink()
    cut = stages.train(TrainOptions(stage="rep", run=Path("cut"), resume=True), QUIET)
    assert same(weights(cut.model_path), weights(whole.model_path))
    assert same(weights(cut.model_path), given, "backbone.")
    assert not same(weights(cut.model_path), given, "classifier.")


def test_a_run_without_the_weights_it_started_from_does_not_go_on_with_others(
    blob_shards: Path, donor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Step, "__call__", fails)
    with pytest.raises(Killed):
        train(blob_shards, "cut", init=str(donor))
    rundir.open_run(Path("cut")).start_path.unlink()
    with pytest.raises(UserError, match=r"cut/start\.safetensors: no such file of weights"):
        stages.train(TrainOptions(stage="rep", run=Path("cut"), resume=True), QUIET)


@pytest.mark.parametrize("cut_in", ["fasttail.rundir.write_json", "fasttail.atomic.rename"])
def test_a_kill_while_the_run_is_made_leaves_its_name_to_the_same_command(
    blob_shards: Path, donor: Path, monkeypatch: pytest.MonkeyPatch, cut_in: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cut_in, fails)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # after a kill nothing is tidied up
        with pytest.raises(Killed):
            train(blob_shards, "run", init=str(donor))
    assert [path.name for path in Path("run").iterdir()]
    run = train(blob_shards, "run", init=str(donor))
    assert run.init == str(donor)
    assert run.model_path.exists()


def test_two_runs_from_the_same_weights_have_the_same_fresh_classifier(
    blob_shards: Path, donor: Path
) -> None:
    headless = {
        name: value for name, value in weights(donor).items() if name.startswith("backbone.")
    }
    torch.save(headless, "headless.pth")
    first, second = (train(blob_shards, name, init="headless.pth") for name in ("a", "b"))
    assert same(weights(first.start_path), weights(second.start_path))
    assert same(weights(first.model_path), weights(second.model_path))


def test_a_resumed_run_takes_no_other_weights(blob_shards: Path, donor: Path) -> None:
    run = train(blob_shards, "run")
    with pytest.raises(UserError, match="resumed with the configuration it was started with"):
        stages.train(TrainOptions(stage="rep", run=run.dir, resume=True, init=str(donor)), QUIET)


def test_a_job_that_torchrun_starts_again_takes_the_runs_own_weights_or_refuses(
    blob_shards: Path, donor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(blob_shards, "whole", init=str(donor))
    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", fails)
        with pytest.raises(Killed):
            train(blob_shards, "cut", init=str(donor))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(UserError, match="started with another configuration"):
        train(blob_shards, "cut", init=str(whole.dir))
    donor.unlink()
    cut = train(blob_shards, "cut", init=str(donor))
    assert same(weights(cut.model_path), weights(whole.model_path))


@pytest.mark.parametrize("trained", ["last-block", "classifier"])
def test_a_backbone_is_not_frozen_at_random_weights(blob_shards: Path, trained: str) -> None:
    with pytest.raises(
        UserError, match=rf"model\.trained is {trained}, .* random weights: give --init"
    ):
        train(blob_shards, "run", settings=(*SMALL, f"model.trained={trained}"))
    assert not Path("run").exists()


def test_weights_that_do_not_fit_leave_no_run_directory(blob_shards: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, "other.pth")
    with pytest.raises(UserError, match="another architecture"):
        train(blob_shards, "run", init="other.pth")
    assert not Path("run").exists()
