"""The exported classifier against the run's head, computed apart in float64."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fasttail import classify
from fasttail.classify.head import Head
from fasttail.console import Reporter
from fasttail.errors import MissingExtra, UserError
from fasttail.export import formats
from fasttail.export.about import About
from fasttail.export.command import export
from fasttail.export.formats import load_state
from fasttail.export.source import load_run
from fasttail.models import build
from fasttail.rundir import Run
from fasttail.train.checkpoint import save_weights

METHODS = ("joint", *classify.METHODS)
# float32 against float64: logits of these runs are of the order of 1 to 10.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def images(blob_files: list[Path]) -> torch.Tensor:
    """float32 [7, 3, 32, 32] in 0..1"""
    pixels_NHWC = np.stack([np.asarray(Image.open(path)) for path in blob_files[::6]])
    return torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2).float() / 255


def reference(run: Run, method: str, images: torch.Tensor) -> np.ndarray:
    """The logits float64 [N, C] by the formulas, from the files in the run's directory."""
    tensors = load_file(run.model_path)
    head = {} if method == "joint" else load_file(run.dir / "heads" / f"{method}.safetensors")
    model = build("resnet20", len(run.class_names))
    own = {name: tensor for name, tensor in head.items() if name.startswith("backbone.")}
    assert bool(own) == (method == "crt-last-block")
    model.load_state_dict({**tensors, **own})
    normalised = (images.double() - 0.3) / 0.2
    with torch.inference_mode():
        x_ND = model.double().eval().backbone(normalised).numpy()
    if method == "joint":
        return x_ND @ tensors["classifier.weight"].double().numpy().T + (
            tensors["classifier.bias"].double().numpy()
        )
    if method == "ncm":
        x_ND = x_ND - head["center"].double().numpy()
        x_ND = x_ND / np.sqrt((x_ND**2).sum(1, keepdims=True))
    return x_ND @ head["weight"].double().numpy().T + head["bias"].double().numpy()


def exported(run: Run, method: str, to: str, out: Path) -> Path:
    return export(run.dir, method, to, out, Reporter(quiet=True))


@pytest.mark.parametrize("method", METHODS)
def test_a_state_file_gives_the_logits_of_the_runs_head(
    blob_run: Run, method: str, images: torch.Tensor, tmp_path: Path
) -> None:
    network, about = load_state(exported(blob_run, method, "state", tmp_path / "x.safetensors"))
    expected = reference(blob_run, method, images)
    assert np.ptp(expected, axis=0).min() > 100 * TOLERANCE["atol"], "images must differ"
    np.testing.assert_allclose(network(images).numpy(), expected, **TOLERANCE)
    np.testing.assert_allclose(network(images[:1]).numpy(), expected[:1], **TOLERANCE)
    assert about.method == method
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("method", ["tau", "ncm"])
def test_a_pt2_gives_the_same_logits_for_any_batch_and_names_its_classes(
    blob_run: Run, method: str, images: torch.Tensor, tmp_path: Path
) -> None:
    path = exported(blob_run, method, "pt2", tmp_path / "x.pt2")
    extra = {"fasttail.json": ""}
    network = torch.export.load(path, extra_files=extra).module()
    about = json.loads(extra["fasttail.json"])
    assert tuple(about["class_names"]) == blob_run.class_names
    expected = reference(blob_run, method, images)
    for batch in (1, 2, 7):
        np.testing.assert_allclose(network(images[:batch]).numpy(), expected[:batch], **TOLERANCE)


@pytest.mark.parametrize("method", ["crt", "ncm"])
def test_onnxruntime_gives_the_same_logits_for_any_batch_and_names_its_classes(
    blob_run: Run, method: str, images: torch.Tensor, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = exported(blob_run, method, "onnx", tmp_path / "x.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["x.onnx"], "one file, weights inside"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["fasttail"])
    assert tuple(about["class_names"]) == blob_run.class_names
    expected = reference(blob_run, method, images)
    for batch in (1, 2, 7):
        (logits,) = session.run(["logits"], {"images": images[:batch].numpy()})
        np.testing.assert_allclose(logits, expected[:batch], **TOLERANCE)


def test_an_onnx_file_names_its_opset_and_leaves_the_batchs_size_open(
    blob_run: Run, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    content = onnx.load(exported(blob_run, "tau", "onnx", tmp_path / "x.onnx"))
    assert {found.domain: found.version for found in content.opset_import}[""] == formats.OPSET
    assert (
        f"opset {formats.OPSET}" in (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    )
    (images,), (logits,) = content.graph.input, content.graph.output
    for value, rest in ((images, [3, 32, 32]), (logits, [5])):
        batch, *sizes = value.type.tensor_type.shape.dim
        assert batch.dim_param == "batch"
        assert [size.dim_value for size in sizes] == rest
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_the_description_has_what_a_user_of_the_file_needs(blob_run: Run, tmp_path: Path) -> None:
    _, about = load_state(exported(blob_run, "tau", "state", tmp_path / "x.safetensors"))
    assert (about.dataset, about.backbone, about.px) == ("blobs", "resnet20", 32)
    assert (about.mean, about.std) == ((0.3, 0.3, 0.3), (0.2, 0.2, 0.2))
    assert "[batch, 3, 32, 32]" in about.input
    assert about.note.startswith("tau ")
    assert "chosen on val" in about.note
    assert {row["split"] for row in about.accuracy} == {"val", "test"}
    assert about.eval_view().out_hw == (32, 32)
    assert about.files.rule().exif == "ignore"
    assert about.outputs == "logits"


def test_a_cosine_head_is_exported_with_its_features_scaled_to_unit_length(
    images: torch.Tensor, tmp_path: Path, blob_run: Run
) -> None:
    trained = load_run(blob_run.dir, "joint", None)
    weight_CD = torch.nn.functional.normalize(trained.head.weight_CD, dim=1) * 30
    head = Head("joint", weight_CD, torch.zeros(5), "l2n")
    deployed = formats.Deployed(trained.model.backbone, head, (0.3,) * 3, (0.2,) * 3)
    about = trained.about.model_copy(update={"transform": "l2n"})
    formats.save_state(tmp_path / "x.safetensors", deployed, about)
    network, _ = load_state(tmp_path / "x.safetensors")
    logits = network(images)
    assert logits.abs().max() <= 30.001, "30 times a cosine"
    features = trained.model.backbone((images - 0.3) / 0.2)
    cosine = torch.nn.functional.cosine_similarity(
        features[:, None], trained.head.weight_CD[None], dim=2
    )
    torch.testing.assert_close(logits, 30 * cosine, **TOLERANCE)


def test_what_is_not_there_is_named_with_what_is(blob_run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"unknown method .*'taw'.*joint, linear, crt, lws, tau, ncm, .*crt-last-block",
    ):
        exported(blob_run, "taw", "state", tmp_path / "x")
    with pytest.raises(UserError, match=r"unknown format 'onx' \(did you mean 'onnx'"):
        exported(blob_run, "tau", "onx", tmp_path / "x")
    with pytest.raises(UserError, match="is a folder"):
        exported(blob_run, "tau", "state", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_best_head_on_val_is_taken_where_none_is_named(blob_run: Run) -> None:
    path = export(blob_run.dir, None, "state", None, Reporter(quiet=True))
    on_val = {r["method"]: r["all_macro"] for r in blob_run.rows() if r["split"] == "val"}
    assert set(on_val) == set(METHODS)
    assert on_val[path.stem] == max(on_val.values())
    assert path.parent == blob_run.dir / "exports"


def test_a_missing_package_says_which_extra_to_install(
    blob_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'pip install "fasttail\[export\]"'):
        exported(blob_run, "tau", "onnx", tmp_path / "x.onnx")


def test_an_export_that_fails_leaves_the_old_file(
    blob_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pt2"
    path.write_bytes(b"old")

    def fails(program: object, file: object, **_: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise RuntimeError("killed")

    monkeypatch.setattr(torch.export, "save", fails)
    with pytest.raises(RuntimeError, match="killed"):
        exported(blob_run, "tau", "pt2", path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt2"]


def test_a_file_that_is_no_exported_classifier_is_refused_in_one_line(
    blob_run: Run, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no description of an exported classifier"):
        load_state(blob_run.model_path)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="not readable as safetensors"):
        load_state(damaged)
    about = load_run(blob_run.dir, "tau", None).about
    fewer = tmp_path / "fewer.safetensors"
    save_weights(fewer, {"classifier.weight": torch.zeros(5, 64)}, about.model_dump(mode="json"))
    with pytest.raises(UserError, match="not the tensors of resnet20") as caught:
        load_state(fewer)
    assert "\n" not in str(caught.value)
    newer = about.model_dump_json().replace('"version":1', '"version":2')
    with pytest.raises(UserError, match="version"):
        About.read(newer, "x.onnx")
