"""Files of a run that somebody has edited, or a disk has damaged: one line that names the file."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fasttail import models, recipes, records, rundir, shards
from fasttail.classify.features import is_current
from fasttail.classify.head import Head
from fasttail.compute import pick
from fasttail.config import ComputeConfig, ShotsConfig
from fasttail.console import Reporter
from fasttail.errors import UserError
from fasttail.evaluate import perclass
from fasttail.evaluate.compare import compare
from fasttail.report import log
from fasttail.report.collect import collect
from fasttail.rundir import Run
from fasttail.stages.begin import shards_of
from fasttail.train import rep
from fasttail.train.checkpoint import load_weights, save_weights
from fasttail.world import World

ROW = {
    **{"method": "joint", "split": "test", "protocol": "clean", "note": "", "images": 40},
    **{"all_micro": 50.0, "all_macro": 40.0, "many": 60.0, "medium": None, "few": 0.0},
    "worst": 0.0,
}


@pytest.fixture
def run(blob_shards: Path, tmp_path: Path) -> Run:
    """A run with numbers of both stages, and without a model."""
    opened = shards.open(blob_shards)
    made = rundir.create(
        tmp_path / "run",
        recipes.load("small-images", ["model.backbone=resnet20"]),
        shards_dir=blob_shards,
        shards_digest=opened.digest,
        dataset=opened.name,
        class_names=opened.class_names,
    )
    made.note_stage2()
    made.add_rows([ROW])
    return made


def looked_at(run: Run) -> None:
    """What reads all of a run's JSON."""
    quiet = Reporter(quiet=True)
    compare([run.dir], None, quiet, as_json=False)
    collect(run.dir)


def change(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content | values


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {key: value for key, value in content.items() if key != name}


DAMAGE: dict[str, list[tuple[Any, str]]] = {
    "run.json": [
        (without("shards"), "shards: Field required"),
        (change(class_names=3), "class_names: Input should be a valid list"),
        (change(class_names=["a", 1]), "class_names.1: Input should be a valid string"),
        (change(config=None), "config: Input should be a valid dictionary"),
        (change(provenance=[]), "provenance: "),
        (lambda content: [content], "all of it: "),
    ],
    "stage2.json": [
        (without("config"), "config: Field required"),
        (change(provenance={"packages": {"torch": 2}}), "provenance.packages.torch: "),
    ],
    "metrics.json": [
        (change(rows={}), "rows: Input should be a valid list"),
        (change(rows=[without("method")(ROW)]), "rows.0.method: Field required"),
        (change(rows=[ROW, ROW | {"all_micro": "50"}]), "rows.1.all_micro: "),
        (change(rows=[ROW | {"few": math.nan}]), "rows.0.few: Input should be a finite number"),
        (change(rows=[ROW | {"images": -1}]), "rows.0.images: "),
    ],
}
NO_JSON = (b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000)


@pytest.mark.parametrize("file", DAMAGE)
def test_an_edited_file_of_a_run_is_one_line_that_names_its_key(run: Run, file: str) -> None:
    looked_at(run)
    path = run.dir / file
    whole = json.loads(path.read_text())
    for edit, said in DAMAGE[file]:
        path.write_text(json.dumps(edit(whole)))
        with pytest.raises(UserError) as caught:
            looked_at(run)
        assert str(caught.value).startswith(f"{path}: damaged: {said}")
        assert "\n" not in str(caught.value)
    for content in NO_JSON:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"json: damaged: no JSON: ") as caught:
            looked_at(run)
        assert "\n" not in str(caught.value)


def test_what_the_program_does_not_know_of_a_file_is_kept(run: Run) -> None:
    run.add_rows([ROW | {"method": "mine", "mark": [1, 2]}])
    run.add_rows([ROW])
    assert run.rows()[1]["mark"] == [1, 2]


def test_class_names_that_are_not_the_shards_are_refused(run: Run) -> None:
    path = run.dir / "run.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"class_names": content["class_names"][:-1]}))
    with pytest.raises(UserError, match="its class names are not those of"):
        shards_of(rundir.open_run(run.dir))


def test_weights_of_another_network_than_run_json_names_are_refused(run: Run) -> None:
    save_weights(run.model_path, models.build("resnet32", 5).state_dict(), {})
    here = pick(ComputeConfig(device="cpu"), World())
    with pytest.raises(UserError, match=r"not the weights of .* that run\.json names") as c:
        rep.load_model(run, here)
    assert "\n" not in str(c.value)
    save_weights(run.model_path, models.build("resnet20", 5).state_dict(), {})
    rep.load_model(run, here)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("test,9,x,40,many,8,50.0", "no such class"),
        ("test,zero,x,40,many,8,50.0", "invalid literal"),
        ("test,0,x,40,many,8,half", "could not convert"),
        ("test,0,x,-1,many,8,50.0", "no such number"),
        ("test,0", "line 2: "),
        ("\0", "line 2: "),
        ("\udcff", "damaged: line "),
    ],
)
def test_a_damaged_line_of_per_class_csv_is_named(run: Run, line: str, said: str) -> None:
    path = run.dir / "per_class.csv"
    table = perclass.ClassTable(run.class_names, np.full(5, 9), ShotsConfig())
    perclass.update(path, table, "test", np.full(5, 8), {"joint": np.full(5, 0.5)})
    assert collect(run.dir).accuracy["joint"].tolist() == [50.0] * 5
    header = path.read_text().splitlines()[0]
    path.write_bytes(f"{header}\n{line}\n".encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=said) as caught:
        perclass.update(path, table, "test", np.full(5, 8), {"joint": np.full(5, 0.5)})
    assert "delete the file, and fasttail eval writes it again" in str(caught.value)
    assert str(caught.value) in collect(run.dir).missing, "a report is drawn without it"


def test_damaged_lines_of_the_log_do_not_count(tmp_path: Path) -> None:
    good = [
        {"kind": "start", "provenance": {"packages": {"torch": "2"}}},
        {"kind": "train", "epoch": 0, "global_step": 1, "loss": 2.0, "more": 1},
        {"kind": "val", "epoch": 0, "all_micro": 50.0, "all_macro": 40.0},
    ]
    bad = [
        {"kind": "start", "provenance": {"packages": "torch"}},
        {"kind": "train", "epoch": 0, "global_step": "2"},
        {"kind": "train", "epoch": 10**400, "global_step": 2},
        {"kind": "val", "epoch": 0},
        {"kind": ["val"]},
        {},
    ]
    path = tmp_path / "log.jsonl"
    lines = [json.dumps(line) for line in [*good, *bad]]
    path.write_text("\n".join([*lines, "[" * 100_000, "9" * 5000, "{", ""]))
    read = log.read(path)
    assert len(read.starts) == 1
    assert read.train["loss"].tolist() == [2.0]
    assert read.val["all_micro"].tolist() == [50.0]


@pytest.mark.parametrize(
    ("about", "tensors", "said"),
    [
        ({"method": None}, {}, "method: "),
        ({"transform": "l3"}, {}, "transform: "),
        ({"chosen_on": 1}, {}, "chosen_on: "),
        ({}, {"bias": None}, "it has no tensor bias"),
        ({"transform": "cl2n"}, {}, "it has no tensor center"),
    ],
)
def test_a_head_with_a_broken_description_is_refused(
    tmp_path: Path, about: dict[str, Any], tensors: dict[str, Any], said: str
) -> None:
    path = tmp_path / "tau.safetensors"
    Head("tau", torch.zeros(3, 4), torch.zeros(3)).save(path)
    whole, description = load_weights(path)
    kept = {name: value for name, value in (whole | tensors).items() if value is not None}
    save_weights(path, kept, description | about)
    with pytest.raises(UserError, match=f"tau.safetensors: damaged: {said}"):
        Head.load(path)


def test_a_feature_bank_whose_description_is_damaged_is_made_again(tmp_path: Path) -> None:
    bank, beside = tmp_path / "val.npy", tmp_path / "val.json"
    bank.touch()
    assert not is_current(bank, {"views": 1})
    rundir.write_json(beside, {"views": 1})
    assert is_current(bank, {"views": 1})
    for content in NO_JSON:
        beside.write_bytes(content)
        assert not is_current(bank, {"views": 1})
    assert not records.says(tmp_path / "none.json", {})
