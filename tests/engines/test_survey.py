import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fasttail import engines, kernels
from fasttail.cli import main
from fasttail.engines import auto, survey
from fasttail.errors import MissingExtra
from fasttail.kernels import library
from fasttail.kernels.build import HOW_TO_BUILD

CPU = torch.device("cpu")


def found(name: str) -> survey.Found:
    (one,) = [one for one in survey.survey(CPU) if one.engine == name]
    return one


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without DALI, which takes a second to start."""
    kept = {name: make for name, make in engines.ENGINES.items() if "dali" not in name}
    monkeypatch.setattr(engines, "ENGINES", kept)


@pytest.mark.usefixtures("quick")
def test_engines_that_work_are_said_to_work() -> None:
    states = {one.engine: one.works for one in survey.survey(CPU)}
    assert states == dict.fromkeys(("ffcv", "resident", "reference", "synthetic"), True)
    assert "fasttail's kernel" in found("ffcv").note or not kernels.available()


@pytest.mark.usefixtures("quick")
def test_a_kernel_that_was_left_out_fails_and_the_commands_that_build_it_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FASTTAIL_KERNEL_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["fasttail", "engines"])
    library._library.cache_clear()
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        library._library.cache_clear()
    assert stopped.value.code == 1
    said = capsys.readouterr()
    assert HOW_TO_BUILD in said.out + said.err, "whole, to be copied"
    assert "auto takes reference" in said.out


@pytest.mark.dali
def test_dali_is_tried_by_decoding() -> None:
    if not auto.dali.available():
        pytest.skip("DALI is not installed")
    one = found("dali")
    assert one.works, one.note


@pytest.mark.usefixtures("quick")
def test_what_is_missing_is_not_broken_and_what_is_broken_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> engines.Engine:
        raise MissingExtra("the engine ffcv", "FFCV", "ffcv")

    def broken(*_: object) -> engines.Engine:
        raise RuntimeError("no such device\nand a long tail")

    monkeypatch.setitem(engines.ENGINES, "ffcv", missing)
    assert survey.show(as_json=True)
    monkeypatch.setitem(engines.ENGINES, "resident", broken)
    assert not survey.show(as_json=False)
    out = capsys.readouterr().out
    assert "not installed: the engine ffcv needs FFCV" in out
    assert "FAILS: no such device" in out
    assert "long tail" not in out


def test_what_decodes_which_jpeg_on_a_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"4:2:0": "the GPU's JPEG engines", "grey": "CUDA", "4:4:4": "the GPU's JPEG engines"}
    monkeypatch.setattr("fasttail.engines.dali_backend.decoded_by", lambda device: kinds)
    engine = SimpleNamespace(name="dali", device=torch.device("cuda", 0))
    assert survey._note(engine) == (  # type: ignore[arg-type]
        "NVIDIA DALI on the GPU; the GPU's JPEG engines: 4:2:0, 4:4:4; CUDA: grey"
    )


@pytest.mark.usefixtures("quick")
def test_wrong_pixels_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines.ENGINES, "ffcv", engines.ENGINES["synthetic"])
    one = found("ffcv")
    assert not one.works
    assert "off by" in one.note


@pytest.mark.usefixtures("quick")
def test_the_json_names_what_auto_takes(capsys: pytest.CaptureFixture[str]) -> None:
    survey.show(as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["auto"] in {one["engine"] for one in said["engines"] if one["works"]}
    assert said["auto"] == auto.decoder(torch.device("cuda" if said["gpu"] else "cpu"))[0]
