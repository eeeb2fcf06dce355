"""The commands as a person types them."""

import json
import sys
from pathlib import Path

import photos
import pytest
import smallsets
from PIL import Image

from fasttail import shards
from fasttail.cli import main
from fasttail.shards.image import APPLIED, IGNORED


def fasttail(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["fasttail", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_convert_verify_and_index_find_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    smallsets.lists(tmp_path / "data/places-lt", "Places_LT_", "train/")
    words = ["convert", "--dataset", "places-lt", "--jobs", 1, "--format", "tar"]
    assert fasttail(monkeypatch, *words) == 2
    assert "--allow-partial" in capsys.readouterr().err
    assert fasttail(monkeypatch, *words, "--allow-partial") == 0
    said = capsys.readouterr().err
    assert "train: 12 images" in said
    assert "WARNING: places-lt is not the published data set" in said
    made = Path("shards/places-lt")
    assert shards.open(made).split_names == ("train", "val", "test")

    assert fasttail(monkeypatch, "verify", made) == 0
    assert fasttail(monkeypatch, "index", *made.glob("*.tar"), "--out", "again") == 0
    assert shards.open("again").split("train").counts_C.tolist() == [6, 4, 2]
    part = made / "train-00000.tar"
    content = bytearray(part.read_bytes())
    content[600] ^= 1
    part.write_bytes(content)
    capsys.readouterr()
    assert fasttail(monkeypatch, "verify", made) == 1
    said = capsys.readouterr()
    source = shards.open(made).split("train").source_name(0)
    assert said.out == (
        f"train-00000.tar: 1 of 12 samples are not what was written: samples 0 (from {source})\n"
    )
    assert said.err == f"{made} is damaged: 1 findings\n"
    assert fasttail(monkeypatch, "verify", made, "--json") == 1
    assert json.loads(capsys.readouterr().out)["problems"] == [said.out.strip()]


def test_images_that_exif_says_to_turn_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    samples = [
        ("c0/a.jpg", photos.encoded(1), 0),
        ("c1/b.jpg", photos.encoded(2, exif=exif), 1),
        ("c1/c.jpg", photos.encoded(3, progressive=True, exif=exif), 1),
        ("c1/d.png", photos.encoded(4, "PNG", exif=exif), 1),
    ]
    photos.index(tmp_path / "in", samples)
    words = ["convert", "--dataset", "folder", "--source", tmp_path / "in", "--val-fraction", 0]
    for how, counted in (("ignore", IGNORED), ("apply", APPLIED)):
        assert fasttail(monkeypatch, *words, "--exif", how, "--out", tmp_path / how) == 0
        kinds = shards.open(tmp_path / how).meta.kinds["train"]
        assert sum(kinds.values()) == 4
        assert sum(n for kind, n in kinds.items() if kind.endswith(counted)) == 3
        said = " ".join(capsys.readouterr().err.split())
        told = "train: 3 images are stored unturned though their EXIF says to turn them"
        assert (told in said) == (how == "ignore")


def test_a_name_that_would_act_on_the_terminal_is_shown_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smallsets.folder(tmp_path / "mine")
    (tmp_path / "mine/train/ant/\x1b[2J\n.jpg").write_text("no image")
    monkeypatch.chdir(tmp_path)
    words = ["convert", "--dataset", "folder", "--source", "mine", "--jobs", 1, "--out", "out"]
    assert fasttail(monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert "\\x1b[2J\\n.jpg: no image" in said
    assert "\x1b" not in said


def test_convert_says_what_it_took_the_source_for_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smallsets.folder(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    words = ["convert", "--dataset", "folder", "--source", "mine", "--jobs", 1, "--out", "out"]
    assert fasttail(monkeypatch, *words) == 0
    assert capsys.readouterr().err.splitlines()[:3] == [
        "mine: 3 classes (ant, bee, cat), 11 images in train, 1 images in val, 6 images in test",
        "  largest class: ant (5 images in train); smallest: cat (2)",
        "  val has no image of 2 classes: bee, cat",
    ]


def test_one_class_in_all_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smallsets.folder(tmp_path / "mine/images")
    monkeypatch.chdir(tmp_path)
    words = ["convert", "--dataset", "folder", "--source", "mine", "--out", "out"]
    assert fasttail(monkeypatch, *words) == 2
    assert "one class, 'images': is --source mine a folder too high?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset", "inat2081"], "did you mean 'inat2018'?"),
        (["--dataset", "folder"], "--dataset folder needs --source"),
        (["--dataset", "folder", "--source", "nowhere"], "no folder nowhere"),
        (["--dataset", "digits", "--on-bad", "maybe"], "--on-bad 'maybe': Input should be"),
        (["--dataset", "digits", "--raw-budget", "9" * 400], "a whole number is at most"),
        (
            ["--dataset", "digits", "--imbalance", "inf"],
            "--imbalance inf: Input should be a finite number",
        ),
        (["--dataset", "digits", "--raw-budget", "much"], "'much' is no size"),
        (["--dataset", "digits", "--imbalance", "1000"], "use at most 120"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fasttail(monkeypatch, "convert", *words) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "looking for" not in line]
    assert len(errors) == 1
    assert errors[0].startswith("fasttail: ")
    assert said in errors[0]
    assert not list(tmp_path.rglob("*.beton"))


def test_indexing_nothing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fasttail(monkeypatch, "index", "no.tar") == 2
    assert "no file no.tar" in capsys.readouterr().err
    (tmp_path / "x.tar").write_bytes(photos.SMALL)
    assert fasttail(monkeypatch, "index", "x.tar", "--out", "o") == 2
    assert "x.tar: no tar header at byte 0" in capsys.readouterr().err
