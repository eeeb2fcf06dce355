"""Predictions for files against what the run's own numbers were made from."""

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import photos
import pytest
import torch
from PIL import Image

from fasttail import classify, shards
from fasttail.classify import joint_head
from fasttail.classify.head import Head
from fasttail.compute import pick
from fasttail.config import ConvertConfig, DataConfig, TrainConfig
from fasttail.console import Reporter
from fasttail.engines import ffcv
from fasttail.engines.kept import Kept
from fasttail.errors import UserError
from fasttail.export.command import export
from fasttail.export.formats import KEY
from fasttail.export.images import batches, find
from fasttail.export.predict import predict
from fasttail.loader import PlannedLoader
from fasttail.plans import eval_epoch, eval_view
from fasttail.rundir import Run
from fasttail.shards.convert import convert
from fasttail.shards.manifest import rule_from
from fasttail.train import rep
from fasttail.train.checkpoint import load_weights
from fasttail.world import World

METHODS = ("joint", *classify.METHODS)
NOTHING = io.BytesIO()


def told(capsys: pytest.CaptureFixture[str], *images: object, **how: object) -> list[dict]:
    """The objects that `predict --json` prints."""
    options = {"topk": 5, "as_json": True, "stdin": NOTHING, **how}
    predict([str(image) for image in images], **options)  # type: ignore[arg-type]
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def measured(run: Run, method: str) -> np.ndarray:
    """The classes that the rows of metrics.json for test count, int64 [N]: from the features that
    the run keeps."""
    model = rep.load_model(run, pick(run.config.compute, World()))
    head = joint_head(model) if method == "joint" else Head.load(run.head_path(method))
    own = run.features_dir / method / "test.npy"
    assert own.exists() == (method == "crt-last-block")
    features_ND = torch.from_numpy(np.load(own if own.exists() else run.features_dir / "test.npy"))
    return head.logits(features_ND).argmax(1).numpy()


def test_predict_gives_the_labels_that_the_runs_accuracy_counts(
    blob_run: Run, blob_files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = set()
    truth_N = np.repeat(np.arange(5), 8)
    for method in METHODS:
        told_N = [
            found["top"][0]["label"]
            for found in told(capsys, *blob_files, run=blob_run.dir, method=method)
        ]
        assert told_N == measured(blob_run, method).tolist()
        (row,) = (r for r in blob_run.rows() if (r["method"], r["split"]) == (method, "test"))
        assert 100 * np.mean(told_N == truth_N) == pytest.approx(row["all_micro"])
        kinds.add(tuple(told_N))
    assert len(kinds) > 1, "the heads must differ"
    assert max(len(set(kind)) for kind in kinds) > 1, "and not all be one class"


@pytest.mark.parametrize("to", ["state", "onnx"])
def test_an_exported_file_predicts_what_its_run_predicts(
    blob_run: Run,
    blob_files: list[Path],
    to: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / {"state": "x.safetensors", "onnx": "x.onnx"}[to]
    export(blob_run.dir, "crt", to, path, Reporter(quiet=True))
    own = told(capsys, *blob_files, run=blob_run.dir, method="crt")
    other = told(capsys, *blob_files, model=path)
    assert [found["path"] for found in own] == [str(path) for path in blob_files]
    for mine, theirs in zip(own, other, strict=True):
        assert mine["path"] == theirs["path"]
        values = [{e["label"]: e["probability"] for e in found["top"]} for found in (mine, theirs)]
        # The run's own features are rounded to half, as those that its accuracy is measured on.
        assert values[0] == pytest.approx(values[1], abs=2e-3)
        assert sum(values[0].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("changes", [{}, {"exif": "apply", "max_side": 50}])
def test_a_file_is_seen_as_its_converted_form_is_in_evaluation(
    tmp_path: Path, changes: dict
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    samples = [
        *photos.jpegs((5, 2)),
        ("c0/turned.jpg", photos.encoded(30, exif=turned), 0),
        ("c0/cmyk.jpg", photos.encoded(31, mode="CMYK"), 0),
        ("c1/alpha.png", photos.encoded(32, "PNG", "RGBA", (70, 40)), 1),
        ("c1/tiny.gif", photos.encoded(33, "GIF", "P", (9, 20)), 1),
    ]
    rules = ConvertConfig(jobs=1, **changes)
    opened = convert(photos.index(tmp_path / "in", samples), tmp_path / "out", rules)
    split = opened.split("train")
    config = TrainConfig(
        data=DataConfig(px=24, resize_px=30, engine="ffcv" if ffcv.available() else "reference")
    )
    plan = eval_epoch(config, split, World())
    with Kept(config.data, torch.device("cpu")) as engines:
        loader = PlannedLoader(
            engines.of(split), lambda _: plan, normalisation=((0, 0, 0), (1, 1, 1)), dtype=None
        )
        ((expected_BCHW, *_),) = loader

    files = [str(tmp_path / "in" / split.source_name(i)) for i in range(len(split))]
    decoded = list(
        batches(
            files, rule_from(rules), eval_view(config.data), batch_size=4, threads=2, timeout_s=60
        )
    )
    assert [len(part.photos) for part in decoded] == [4, 4, 3]
    images = torch.cat([part.batch.images_BHWC for part in decoded if part.batch is not None])
    assert torch.equal(images.permute(0, 3, 1, 2), expected_BCHW)
    assert len(images) == 11
    assert not torch.equal(images[0], images[1])


def test_a_bad_image_is_one_line_and_the_others_keep_their_order(
    blob_run: Run, blob_files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(photos.SMALL[: len(photos.SMALL) // 2])
    empty = tmp_path / "empty"
    empty.mkdir()
    good = blob_files[:3]
    named = [text, good[2], tmp_path / "missing.jpg", good[0], cut, empty, good[1]]
    bad = predict(
        [str(path) for path in named], run=blob_run.dir, method="tau", topk=2, as_json=False
    )
    said = capsys.readouterr()
    assert bad == 4
    assert [line.split(":")[0] for line in said.out.splitlines()] == [
        str(good[k]) for k in (2, 0, 1)
    ]
    assert [line.split(": ")[1] for line in said.err.splitlines()] == [
        str(path) for path in (text, tmp_path / "missing.jpg", cut, empty)
    ]
    assert "No such file" in said.err
    for line in said.out.splitlines():
        assert re.fullmatch(r".*\.png: blob \d \d+\.\d %, blob \d \d+\.\d %", line)


def test_an_image_that_takes_too_long_holds_up_no_other(tmp_path: Path) -> None:
    Image.new("1", (9900, 9900)).save(tmp_path / "large.png")  # of a few KB
    (tmp_path / "good.jpg").write_bytes(photos.SMALL)
    files = [str(tmp_path / name) for name in ("large.png", "good.jpg")]
    rules, view = rule_from(ConvertConfig()), eval_view(DataConfig(px=16, resize_px=20))
    (part,) = batches(files, rules, view, batch_size=4, threads=1, timeout_s=0.05)
    assert [photo.reason for photo in part.photos] == ["decoding takes more than 0.05 s", ""]
    assert part.batch is not None
    assert len(part.batch.images_BHWC) == 1


def test_nothing_but_bad_images_is_no_crash(
    blob_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, tmp_path / "a", tmp_path / "b", run=blob_run.dir, method="tau") == []


def test_folders_are_read_with_all_below_them_and_a_dash_means_paths_on_stdin(
    tmp_path: Path,
) -> None:
    for name in (
        "b/2.jpg",
        "b/10.png",
        "b/deep/er/1.webp",
        "b/notes.txt",
        "b/.hidden.jpg",
        "a.gif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder, single = str(tmp_path / "b"), str(tmp_path / "a.gif")
    below = [f"{folder}/10.png", f"{folder}/2.jpg", f"{folder}/deep/er/1.webp"]
    assert list(find([single, folder], NOTHING)) == [single, *below]
    odd = b"/photos/caf\xe9 au lait.jpg"
    lines = io.BytesIO(os.fsencode(folder) + b"\r\n\n-\n" + odd)
    assert list(find(["first", "-", "last"], lines)) == [
        "first",
        *below,
        os.fsdecode(odd),
        "last",
    ]


def test_nearest_means_are_told_as_scores_and_at_most_as_many_classes_as_there_are(
    blob_run: Run, blob_files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = told(capsys, blob_files[0], run=blob_run.dir, method="ncm", topk=100)
    scores = [entry["score"] for entry in found["top"]]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    assert all("probability" not in entry for entry in found["top"])
    names = {entry["label"]: entry["class"] for entry in found["top"]}
    assert names == {c: f"blob {c}" for c in range(5)}


def test_mistakes_are_named(blob_run: Run, tmp_path: Path) -> None:
    def refused(match: str, **how: object) -> None:
        with pytest.raises(UserError, match=match):
            predict(["x.jpg"], **{"topk": 5, "as_json": False, **how})  # type: ignore[arg-type]

    refused("--topk 0", topk=0)
    refused("unknown method .*'crr' .did you mean 'crt'", run=blob_run.dir, method="crr")
    refused("leave out --run", run=blob_run.dir, model=tmp_path / "x.safetensors")
    refused("no such file", model=tmp_path / "x.safetensors")
    (tmp_path / "x.pt2").touch()
    refused("pickled code", model=tmp_path / "x.pt2")
    (tmp_path / "x.onnx").write_bytes(b"no model")
    refused("onnxruntime can't load it", model=tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("images", None),
        ("pictures", "its inputs and outputs are .*'pictures'.*export it again"),
        ("two", "its inputs and outputs are .*'images'.*'more'.*export it again"),
        ("integers", "its inputs and outputs are .*int64.*export it again"),
        ("other size", r"its inputs and outputs are .*\[3, 9, 9\].*export it again"),
        ("no description", "written_by: Field required"),
    ],
)
def test_an_onnx_with_other_inputs_than_its_description_says_is_refused(
    blob_run: Run, blob_files: list[Path], tmp_path: Path, what: str, said: str | None
) -> None:
    onnx, helper = pytest.importorskip("onnx"), pytest.importorskip("onnx.helper")
    path = tmp_path / "x.safetensors"
    export(blob_run.dir, "tau", "state", path, Reporter(quiet=True))
    about = load_weights(path)[1]
    px, classes = (9 if what == "other size" else about["px"]), len(about["class_names"])
    kind = onnx.TensorProto.INT64 if what == "integers" else onnx.TensorProto.FLOAT
    names = {"pictures": ["pictures"], "two": ["images", "more"]}.get(what, ["images"])
    inputs = [helper.make_tensor_value_info(name, kind, ["batch", 3, px, px]) for name in names]
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", classes])
    nodes = [
        helper.make_node("Cast", names[:1], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    weight = helper.make_tensor("weight", onnx.TensorProto.FLOAT, [3, classes], [0.5] * 3 * classes)
    graph = helper.make_graph(nodes, "x", inputs, [logits], [weight])
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    text = json.dumps({} if what == "no description" else about)
    helper.set_model_props(model, {KEY: text})
    onnx.save(model, tmp_path / "x.onnx")

    def named() -> int:
        return predict([str(blob_files[0])], model=tmp_path / "x.onnx", topk=1, as_json=False)

    if said is None:
        assert named() == 0
        return
    with pytest.raises(UserError, match=said):
        named()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_predict_works_on_the_gpu(
    blob_run: Run, blob_files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.safetensors"
    export(blob_run.dir, "crt", "state", path, Reporter(quiet=True))
    own = told(capsys, *blob_files, run=blob_run.dir, method="crt")
    other = told(capsys, *blob_files, model=path)
    assert [found["top"][0]["label"] for found in own] == measured(blob_run, "crt").tolist()
    assert len(own) == len(other) == len(shards.open(blob_run.shards_dir).split("test"))
