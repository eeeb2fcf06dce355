import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fasttail import recipes, stages
from fasttail.console import Reporter
from fasttail.protocol import settle
from fasttail.rundir import Run
from fasttail.train.checkpoint import Checkpoints, load_weights, save_weights

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import measure_protocols  # noqa: E402

SMALL = (
    *("model.backbone=resnet20", "optim.epochs=1", "optim.batch_size=8", "optim.warmup_epochs=0"),
    *("classify.crt.epochs=1", "classify.lws.epochs=1", "shots.many_above=15", "shots.few_below=6"),
    *("compute.amp=fp32", "compute.tensorboard=false", "compute.report=false"),
)
LINES = measure_protocols.LINES[:2]


@pytest.fixture
def run_dir(blob_shards: Path, tmp_path: Path) -> Path:
    options = stages.TrainOptions("rep", shards=blob_shards, run=tmp_path / "run", settings=SMALL)
    return stages.train(options, Reporter(quiet=True)).dir


def measure(run_dir: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> dict[str, Any]:
    out = run_dir.parent / "protocols.json"
    command = ["measure_protocols.py", "--run", str(run_dir), "--json", str(out), *options]
    monkeypatch.setattr(sys, "argv", command)
    measure_protocols.main()
    return json.loads(out.read_text())


def test_it_goes_on_after_the_lines_that_are_measured(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[tuple[str, int]] = []
    stage2 = measure_protocols.stage2

    def counted(run: Any, home: Path, line: Any, seed: int, reporter: Reporter) -> Any:
        done.append((line.name, seed))
        if len(done) == 4:
            raise KeyboardInterrupt
        return stage2(run, home, line, seed, reporter)

    monkeypatch.setattr(measure_protocols, "LINES", LINES)
    monkeypatch.setattr(measure_protocols, "stage2", counted)
    first, second = (line.name for line in LINES)
    with pytest.raises(KeyboardInterrupt):
        measure(run_dir, monkeypatch, "--seeds", "2")
    found = measure(run_dir, monkeypatch, "--seeds", "2")
    # The line that was stopped half-way is measured anew, the one before it is not.
    assert done == [
        *((first, n) for n in (0, 1)),
        *((second, n) for n in (0, 1)),
        (second, 0),
        (second, 1),
    ]
    assert set(found["lines"]) == {first, second}
    assert [set(rows) for rows in found["lines"][second]] == 2 * [{"crt", "lws"}]
    assert f"| {second} | crt |" in capsys.readouterr().out

    with pytest.raises(SystemExit, match="other seeds"):
        measure(run_dir, monkeypatch, "--seeds", "3")


def differing(before: Any, after: Any, key: str = "") -> set[str]:
    """The last names of the keys whose values differ."""
    if not isinstance(before, dict):
        return {key} if before != after else set()
    return {name for key in before for name in differing(before[key], after[key], key)}


def test_every_line_changes_one_thing_of_the_line_that_it_is_compared_with() -> None:
    every = {line.name: line for line in (*measure_protocols.LINES, *measure_protocols.STAGE1)}
    assert len(every) == len(measure_protocols.LINES) + len(measure_protocols.STAGE1)
    compared = [line for line in every.values() if line.against is not None]
    assert len(compared) > 10
    recipe = recipes.load("cifar10-lt")
    for line in compared:
        against = every[line.against]
        before, after = (
            settle(
                recipes.change(recipe, recipes.parse_settings(one.settings)),
                ("train", "val", "test"),
            ).model_dump()
            for one in (against, line)
        )
        changed = differing(before, after)
        if line.keeps != against.keeps:
            assert not changed, line.name
        elif line.name == "official, all of it":
            assert {"protocol", "order", "metric", "lr_per"} <= changed
        else:
            assert len(changed) == 1, (line.name, changed)


def test_stage_1_is_trained_once_for_its_last_and_its_best_epoch(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, best = (line for line in measure_protocols.STAGE1 if line.needs == "val")
    assert (last.keeps, best.keeps, best.against) == ("last", "best", last.name)
    train, trained = stages.train, []

    def and_spoil_the_best(options: stages.TrainOptions, reporter: Reporter) -> Run:
        run = train(options, reporter)
        path = run.checkpoints_dir / Checkpoints.BEST
        weights, about = load_weights(path)
        weights["classifier.weight"].zero_()
        weights["classifier.bias"].copy_(torch.arange(len(run.class_names)))
        save_weights(path, weights, about)
        trained.append(run)
        return run

    monkeypatch.setattr(stages, "train", and_spoil_the_best)
    monkeypatch.setattr(measure_protocols, "LINES", ())
    monkeypatch.setattr(measure_protocols, "STAGE1", (last, best))
    found = measure(run_dir, monkeypatch, "--stage1", "2", "--seeds", "2")["lines"]

    assert [run.config.seed for run in trained] == [0, 1]
    assert [run.config.optim.epochs for run in trained] == [2, 2]
    for seed in range(2):
        # The model in best.safetensors always answers with the last of five classes.
        assert found[best.name][seed]["joint"]["all_macro"] == 20
        assert found[best.name][seed]["joint"]["few"] > found[best.name][seed]["joint"]["many"] == 0
        assert found[last.name][seed]["joint"]["many"] > 0
