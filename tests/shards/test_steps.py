"""plan, tasks, merge: the same shards by whoever makes the parts, in any order, however often."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import photos
import pytest

from fasttail import shards
from fasttail.cli import main
from fasttail.datasets import spool
from fasttail.datasets.namelist import Names
from fasttail.datasets.spool import Spool
from fasttail.errors import UserError
from fasttail.shards import parts
from fasttail.shards.parts import divide
from fasttail.shards.workdir import WorkDir

PARTS = ("--part-size", "30000", "--jobs", "1")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    samples = photos.jpegs((14, 9))
    samples += [(f"c{c}/a.png", photos.encoded(50 + c, "PNG"), c) for c in range(2)]
    photos.index(tmp_path / "in/train", samples)
    return tmp_path / "in"


@pytest.fixture
def fasttail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["fasttail", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def planned(fasttail, source: Path, out: Path, *options: object) -> None:
    words = ["convert", "--plan", "--dataset", "folder", "--source", source, "--out", out]
    code, said = fasttail(*words, *PARTS, *options)
    assert code == 0, said
    assert "parts are to be made" in said


def test_tasks_in_any_order_make_the_shards_that_convert_makes(
    fasttail, source: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    words = ["convert", "--dataset", "folder", "--source", source, "--out", whole]
    assert fasttail(*words, *PARTS)[0] == 0
    planned(fasttail, source, out)
    assert sorted(p.suffix for p in out.iterdir()) == [""], "nothing but .convert"
    for numbers in ("1/3", "0", "2/3", "0/3", "1"):
        assert fasttail("convert", "--task", numbers, "--out", out) == (0, "")
    assert fasttail("convert", "--merge", "--out", out)[0] == 0
    assert len(list(out.glob("train-*.beton"))) > 3
    assert photos.tree(out) == photos.tree(whole)
    code, said = fasttail("convert", "--task", 0, "--out", out)
    assert (code, said) == (0, f"{out} is ready: nothing is to be made\n")


def test_one_task_at_a_time_claims_a_part_and_two_at_once_both_end_well(
    fasttail, source: Path, tmp_path: Path
) -> None:
    planned(fasttail, source, tmp_path / "out", "--part-size", 10**9, "--val-fraction", 0)
    command = [sys.executable, "-m", "fasttail", "convert", "--task", "0", "--out"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    both = [subprocess.Popen([*command, str(tmp_path / "out")], env=env) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert fasttail("convert", "--merge", "--out", tmp_path / "out")[0] == 0
    assert len(shards.open(tmp_path / "out").split("train")) == 25


def test_where_a_file_system_has_no_locks_each_attempt_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    work = WorkDir(tmp_path)
    work.path.mkdir()
    monkeypatch.setattr(fcntl, "flock", flock)
    with work.attempt("train-00000") as one, work.attempt("train-00000") as other:
        assert one != other
        assert one.is_dir()
    assert not one.exists()


def test_what_a_killed_attempt_left_is_removed_by_the_next(tmp_path: Path) -> None:
    work = WorkDir(tmp_path)
    left = work.path / "train-00001.x.made"
    left.mkdir(parents=True)
    (left / "train-00001.beton").write_text("half")
    others = work.path / "train-00000.x.made"
    others.mkdir()
    with work.attempt("train-00001"):
        assert not left.exists()
    assert others.exists()


def test_merge_names_the_first_part_that_is_missing_with_its_command(
    fasttail, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    planned(fasttail, source, out)
    assert fasttail("convert", "--task", "0/2", "--out", out)[0] == 0
    code, said = fasttail("convert", "--merge", "--out", out)
    assert code == 2
    assert "part 1, train-00001, is missing (and " in said
    assert said.endswith(f"fasttail convert --task 1 --out {out}\n")
    assert not (out / "dataset.json").exists()


def test_a_part_of_another_manifest_is_not_taken(fasttail, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    planned(fasttail, source, out)
    assert fasttail("convert", "--task", "0/1", "--out", out)[0] == 0
    planned(fasttail, source, out, "--max-side", 64)
    code, said = fasttail("convert", "--merge", "--out", out)
    assert code == 2
    assert "part 0, train-00000, is of another manifest" in said
    first, second = (out / ".convert" / f"train-0000{k}.piece" for k in range(2))
    first.write_bytes(second.read_bytes())
    code, said = fasttail("convert", "--task", 0, "--out", out)
    assert code == 2
    assert "train-00000.piece is of another manifest" in said


@pytest.mark.parametrize("how", ["size", "time"])
def test_a_file_that_changes_after_it_was_listed_is_named(
    fasttail, source: Path, tmp_path: Path, how: str
) -> None:
    planned(fasttail, source, tmp_path / "out")
    path = source / "train/c0/0.jpg"
    if how == "size":
        path.write_bytes(photos.encoded(99))
    else:
        os.utime(path, ns=(1, 1))
    code, said = fasttail("convert", "--task", 0, "--out", tmp_path / "out")
    assert code == 2
    assert f"{path} has changed since the source was listed" in said
    assert not list((tmp_path / "out").glob("*.beton"))
    planned(fasttail, source, tmp_path / "out")
    assert fasttail("convert", "--task", 0, "--out", tmp_path / "out") == (0, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", 99], "has parts 0 to "),
        (["--task", "3/2"], "I/N with I below N"),
        (["--task", "x"], "give a part's number I"),
        (["--task", 0, "--merge"], "three steps: give one of them"),
        (["--merge", "--max-side", 64], "--merge goes by the manifest in"),
        (["--task", 0, "--dataset", "list"], "has the manifest of --dataset folder --source"),
        (["--task", 0, "--dataset", "folder", "--source", "o"], "not of --dataset folder --source"),
    ],
)
def test_a_mistaken_step_is_one_line(
    fasttail, source: Path, tmp_path: Path, words: list[object], said: str
) -> None:
    planned(fasttail, source, tmp_path / "out")
    code, error = fasttail("convert", *words, "--out", tmp_path / "out")
    assert code == 2
    assert said in error
    assert error.count("\n") == 1


def test_steps_without_a_manifest_or_a_data_set_say_what_to_do(fasttail, tmp_path: Path) -> None:
    for words in (["--task", 0], ["--merge"]):
        assert "needs --out" in fasttail("convert", *words)[1]
        assert "has no manifest" in fasttail("convert", *words, "--out", tmp_path)[1]
    assert "which data set? --dataset one of digits" in fasttail("convert")[1]
    assert "unknown executor 'rya'" in fasttail("convert", "--dataset", "digits", "--on", "rya")[1]


def test_names_in_a_file_are_the_names_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [f"c{i % 3}/{i * 7}.jpg" for i in range(50)]
    monkeypatch.setattr(spool, "BLOCK", 8)
    names = Names.of(listed)
    assert names.text.base is not None, "they lie in a file"
    assert list(names) == listed
    assert names[7] == listed[7]
    assert list(names[10:20]) == listed[10:20]
    numbers = Spool(spool.np.int64)
    for i in range(20):
        numbers.append(i * i)
    assert numbers.array().tolist() == [i * i for i in range(20)]


def test_parts_are_the_same_however_many_sizes_are_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = spool.np.random.default_rng(0)
    for trial in range(20):
        sizes = rng.integers(0, 30, 60)
        bounds, held = [0], 0
        for i, size in enumerate(sizes.tolist()):
            if i > bounds[-1] and (held + size > 64 or i - bounds[-1] == 9):
                bounds.append(i)
                held = 0
            held += size
        expected = list(zip(bounds, [*bounds[1:], 60], strict=True))
        monkeypatch.setattr(parts, "PART_IMAGES", 9)
        for block in (1, 7, 60, 100):
            monkeypatch.setattr(parts, "BLOCK", block)
            assert divide(sizes, 64) == expected, (trial, block)


def test_an_image_larger_than_a_part_is_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = spool.np.array([5, 100, 5, 5])
    assert divide(sizes, 10) == [(0, 1), (1, 2), (2, 4)]


def test_a_class_without_a_good_image_is_found_at_the_end(
    fasttail, source: Path, tmp_path: Path
) -> None:
    (source / "train/c2").mkdir()
    (source / "train/c2/x.jpg").write_text("no image")
    planned(fasttail, source, tmp_path / "out", "--val-fraction", 0)
    assert fasttail("convert", "--task", "0/1", "--out", tmp_path / "out")[0] == 0
    code, said = fasttail("convert", "--merge", "--out", tmp_path / "out")
    assert code == 2
    assert "1 bad images" in said
    with pytest.raises(UserError, match="not finished"):
        shards.open(tmp_path / "out")
