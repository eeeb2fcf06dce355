"""docs/own-data.md does what it says: its commands, run as they stand there."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fasttail import cli

PAGE = Path(__file__).parents[2] / "docs" / "own-data.md"
COUNTS = {"brown bear": 40, "Füchse & Co": 20, "猫": 12, "<b>rare": 6}


@pytest.fixture
def my_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photographs of a kind: JPEG and PNG files of several sizes, a colour a class."""
    generator = np.random.default_rng(0)
    for c, (name, count) in enumerate(COUNTS.items()):
        for split, images in (("train", count), ("test", 3)):
            folder = tmp_path / "my-images" / split / name
            folder.mkdir(parents=True)
            for k in range(images):
                height, width = generator.integers(70, 120, 2)
                small = generator.integers(0, 120, (6, 6, 3), dtype=np.uint8)
                small[..., c % 3] += 60 * (1 + c // 3)
                suffix = ("jpg", "png")[k % 2]
                Image.fromarray(small).resize((width, height)).save(folder / f"{k}.{suffix}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTTAIL_SHARDS", raising=False)
    return tmp_path / "my-images"


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    return [shlex.split(line) for line in "".join(blocks).replace("\\\n", " ").splitlines()]


def test_the_page_of_ones_own_data_works_to_the_letter(
    my_images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    printed: dict[str, str] = {}
    said = ""
    for program, *arguments in commands():
        assert program == "fasttail"
        # In this process: a new one would load torch again each time.
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        assert ended.value.code in (0, None), (arguments, captured.err)
        printed[arguments[0]] = captured.out
        said += captured.err
    assert list(printed) == ["convert", "inspect", "train", "report", "predict", "export"]

    root = my_images.parent
    assert "none, within splits or across them" in printed["inspect"]
    for method in ("joint", "crt", "lws", "tau", "ncm"):
        assert method in printed["train"]
    for page in ("mine.html", "runs/try/report.html", "compared.html"):
        text = (root / page).read_text(encoding="utf-8")
        assert "<svg" in text
        assert "Füchse &amp; Co" in text
        assert "<b>rare" not in text, "a class's name is no tag"
    images = [path for path in (my_images / "train").rglob("*") if path.is_file()]
    named = [line for line in printed["predict"].splitlines() if "my-images/train/" in line]
    assert len(named) == len(images) == sum(COUNTS.values())
    right = [re.search(r"train/(.+)/\d+\.\w+: \1 [\d.]+ %", line) is not None for line in named]
    assert sum(right) > 0.6 * len(right), "classes of one colour are easily told apart"
    assert len(list((root / "runs/try/exports").iterdir())) == 1
    assert "runs/try/report.html" in said
