"""Sources that lie: pickles, paths out of the root, bombs. Refused in one line; nothing runs."""

import gzip
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import smallsets

from fasttail import datasets
from fasttail.config import ConvertConfig
from fasttail.datasets import inat, lists
from fasttail.datasets.tars import members
from fasttail.errors import UserError

CFG = ConvertConfig()


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("where", ["whole", "in the data"])
def test_a_pickle_that_runs_code_does_not_run(tmp_path: Path, where: str) -> None:
    smallsets.cifar10(tmp_path)
    trap = tmp_path / "trap"
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    content = Evil(trap) if where == "whole" else {b"labels": [0], b"data": Evil(trap)}
    file.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UserError, match=r"data_batch_3: not one of CIFAR's files.*mkdir"):
        datasets.index("cifar10-lt", tmp_path, CFG)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Evil(trap)))  # noqa: S301 - that it would have worked
    assert trap.exists()


@pytest.mark.parametrize(
    "data", [np.zeros((200, 3072), np.float32), np.array([{}], object), b"", None]
)
def test_a_cifar_file_with_other_content_is_named(tmp_path: Path, data: object) -> None:
    smallsets.cifar10(tmp_path)
    file = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    file.write_bytes(pickle.dumps({b"labels": [0] * 200, b"data": data}, protocol=2))
    with pytest.raises(UserError, match="data_batch_1"):
        datasets.index("cifar10-lt", tmp_path, CFG)


def test_cifar_written_again_by_python_3_is_read(tmp_path: Path) -> None:
    smallsets.cifar10(tmp_path)
    before = datasets.index("cifar10-lt", tmp_path, ConvertConfig(imbalance=5))
    for file in (tmp_path / "cifar-10-batches-py").iterdir():
        content = {k.decode(): v for k, v in pickle.loads(file.read_bytes()).items()}  # noqa: S301
        file.write_bytes(pickle.dumps(content, protocol=4))
    after = datasets.index("cifar10-lt", tmp_path, ConvertConfig(imbalance=5))
    one, other = before.splits["train"].images, after.splits["train"].images
    assert np.array_equal(one.read(0), other.read(0))
    assert one.read(0).any()


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", "out/s.jpg"]
)
@pytest.mark.parametrize("form", ["list", "csv", "inat2018"])
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, path: str, form: str) -> None:
    root = tmp_path / "root"
    (tmp_path / "outside").mkdir()
    smallsets.write_images(tmp_path, ["secret.jpg", "outside/s.jpg"])
    smallsets.write_images(root, [f"a/{i}.jpg" for i in range(3)])
    (root / "out").symlink_to(tmp_path / "outside")
    good = [f"a/{i}.jpg" for i in range(3)]
    if form == "list":
        (root / "train.txt").write_text("".join(f"{p} 0\n" for p in [*good, path]))
    elif form == "csv":
        (root / "train.csv").write_text("path,label\n" + "".join(f"{p},x\n" for p in [*good, path]))
    else:
        content = {
            "images": [{"id": i, "file_name": p} for i, p in enumerate([*good, path])],
            "annotations": [{"image_id": i, "category_id": 0} for i in range(4)],
            "categories": [{"id": 0, "name": "x"}],
        }
        (root / "train2018.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"image 4, .*(leaves|not a path relative)"):
        datasets.index(form, root, ConvertConfig(allow_partial=True))


def test_an_image_that_is_a_link_out_of_the_root_is_not_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    smallsets.write_images(tmp_path, ["secret.jpg"])
    smallsets.write_images(root, ["a/0.jpg"])
    (root / "a/1.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "a/2.jpg").symlink_to(root / "a/0.jpg")
    (root / "train.txt").write_text("a/0.jpg 0\na/1.jpg 0\na/2.jpg 0\n")
    images = datasets.index("list", root, ConvertConfig(val_fraction=0)).splits["train"].images
    with pytest.raises(OSError, match="leaves"):
        images.read(1)
    assert images.read(2) == images.read(0)


def test_a_named_pipe_is_no_image(tmp_path: Path) -> None:
    smallsets.folder(tmp_path)
    os.mkfifo(tmp_path / "train/ant/pipe.jpg")
    images = (
        datasets.index("folder", tmp_path, ConvertConfig(val_fraction=0)).splits["train"].images
    )
    at = next(i for i in range(len(images)) if "pipe" in images.name(i))
    with pytest.raises(OSError, match="no regular file"):
        images.read(at)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"images": ' * 50_000, "{}", "[1]", '{"images": 3}', "\x00", "nan"]
)
def test_json_that_is_none_of_inaturalists_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train2018.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"train2018\.json: (no JSON|not iNaturalist's form)"):
        inat.read_json(path)


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg x", "a.jpg -1", "a.jpg 99999999", "a.jpg 1.5"])
def test_a_line_that_is_no_path_and_label_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "train.txt").write_text(f"good.jpg 0\n{line}\n")
    with pytest.raises(UserError, match=r"train\.txt: line 2"):
        lists.read_list(tmp_path / "train.txt")


def test_a_list_without_line_ends_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "train.txt.gz", "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    with pytest.raises(UserError, match="no list of images"):
        lists.read_list(tmp_path / "train.txt.gz")
    (tmp_path / "val.txt.gz").write_bytes(b"\x1f\x8bnot gzip at all")
    with pytest.raises(UserError, match="cannot be read"):
        lists.read_list(tmp_path / "val.txt.gz")


def damaged(tar: bytes, how: str) -> bytes:
    if how == "cut in a member":
        return tar[:700]
    if how == "cut between members":
        return tar[:1536]
    if how == "header":
        return tar[:100] + b"X" + tar[101:]
    if how == "gzip":
        return gzip.compress(tar)
    return tar[:124] + b"77777777777\0" + tar[136:]


@pytest.mark.parametrize(
    "how", ["cut in a member", "cut between members", "header", "gzip", "size"]
)
def test_a_broken_tar_is_named(tmp_path: Path, how: str) -> None:
    smallsets.tars(tmp_path)
    path = tmp_path / "train-0000.tar"
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(UserError, match=r"train-0000\.tar"):
        list(members(path))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds(tmp_path: Path, form: int) -> None:
    path = tmp_path / "x.tar"
    names = ["a.jpg", "d" * 60 + "/" + "f" * 70 + ".jpg"]
    if form != tarfile.USTAR_FORMAT:
        names += ["n" * 300 + ".jpg", "größe.jpg"]
    with tarfile.open(path, "w", format=form) as tar:
        for k, name in enumerate(names):
            smallsets.add(tar, name, bytes(k * 300))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with tarfile.open(path) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    assert [(m.name, m.at, m.size) for m in members(path)] == expected
    assert len(expected) == len(names)
