"""Shards in a bucket: as local ones, whatever the store and the network do."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fasttail import Loader, rundir, shards
from fasttail.cli import app
from fasttail.config import StoresConfig
from fasttail.errors import MissingExtra, UserError
from fasttail.shards.verify import verify
from fasttail.stores import mirror, store


def batches(place: Any) -> list[np.ndarray]:
    with Loader(place, sampler="class", batch_size=8, px=32, epochs=1, threads=1) as loader:
        return [images.numpy() for images, _ in loader]


def same_as_local(bucket: Any) -> bool:
    theirs, ours = batches(bucket.local), batches(bucket.url)
    assert len(ours) > 1
    return all(np.array_equal(a, b) for a, b in zip(theirs, ours, strict=True))


def asked(bucket: Any, name: str) -> list[str]:
    """The ranges of a file that were asked for."""
    return [
        what for method, path, what in bucket.proxy.requests if method == "GET" and name in path
    ]


def fails(bucket: Any, times: int, *what: Any, of: str = ".beton") -> list[str]:
    """The next reads of such files go wrong; what is returned lists them."""
    went_wrong: list[str] = []

    def fault(method: str, path: str) -> Any:
        if method != "GET" or of not in path or len(went_wrong) >= times:
            return None
        went_wrong.append(path)
        return what

    bucket.proxy.fault = fault
    return went_wrong


def test_images_from_a_bucket_are_those_of_the_folder_and_each_file_comes_once(bucket: Any) -> None:
    assert same_as_local(bucket)
    split = shards.open(bucket.url).split("train")
    for part in split.meta.parts:
        ranges = asked(bucket, part.file)
        assert len(ranges) == len(set(ranges)) == -(-part.bytes // 4000)
    assert asked(bucket, "cache/planes.bin")
    assert not asked(bucket, "names.npy"), "nobody has asked for them"
    assert split.source_name(0) == shards.open(bucket.local).split("train").source_name(0)
    bucket.proxy.requests.clear()
    assert same_as_local(bucket)
    assert asked(bucket, "dataset.json")
    assert not asked(bucket, ".beton") + asked(bucket, ".npy")


def test_what_a_batch_does_not_need_is_not_waited_for(bucket: Any) -> None:
    split = shards.open(bucket.url).split("train")
    bucket.proxy.requests.clear()
    assert len(split.bytes(0)) == split.sizes_N[0]
    first, *others = [part.file for part in split.meta.parts]
    assert asked(bucket, first)
    assert not [name for name in others if asked(bucket, name)]


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("what", [("status", 503), ("status", 500), ("cut", 100)])
def test_a_store_that_fails_for_a_while_is_asked_again(bucket: Any, what: Any, times: int) -> None:
    went_wrong = fails(bucket, times, *what)
    assert same_as_local(bucket)
    assert len(went_wrong) == times


def test_a_store_that_hangs_is_asked_again(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "STORES", StoresConfig(request_bytes=4000, timeout_s=1))
    went_wrong = fails(bucket, 1, "wait", 3)
    assert same_as_local(bucket)
    assert went_wrong


def test_a_server_that_dies_and_comes_back_is_waited_for(bucket: Any) -> None:
    split = shards.open(bucket.url).split("train")
    assert len(split.labels_N)
    bucket.proxy.down()
    timer = threading.Timer(1.0, bucket.proxy.up)
    timer.start()
    assert len(split.bytes(0)) == split.sizes_N[0]
    timer.join()


def test_a_store_that_stays_away_ends_in_one_line_and_what_has_come_stays(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = StoresConfig(request_bytes=4000, requests=1, patience_s=0.2)
    for module in (store, mirror):
        monkeypatch.setattr(module, "STORES", impatient)
    split = shards.open(bucket.url).split("train")
    assert split.meta.parts[0].bytes > 8000
    assert len(split.parts_N) == len(split.crc32_N)
    reads = 0

    def fault(method: str, path: str) -> Any:
        nonlocal reads
        reads += method == "GET" and "00000.beton" in path
        return ("status", 503) if reads > 2 else None

    bucket.proxy.fault = fault
    with pytest.raises(UserError, match=r"00000\.beton: no answer for 0\.2 s .*: run the same"):
        split.bytes(0)
    bucket.proxy.fault = lambda method, path: None
    bucket.proxy.requests.clear()
    assert len(split.bytes(0)) == split.sizes_N[0]
    assert "bytes=0-3999" not in asked(bucket, "00000.beton")
    assert "bytes=8000-11999" in asked(bucket, "00000.beton")


def test_an_object_that_changes_while_it_is_read_is_read_from_the_beginning(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "STORES", StoresConfig(request_bytes=4000, requests=1))
    name = shards.open(bucket.local).split("train").meta.parts[0].file
    right = (bucket.local / name).read_bytes()
    bucket.put(name, right[::-1])
    reads = 0

    def fault(method: str, path: str) -> Any:
        nonlocal reads
        reads += method == "GET" and name in path
        if reads == 2:
            bucket.put(name, right)

    bucket.proxy.fault = fault
    assert same_as_local(bucket)
    assert asked(bucket, name).count("bytes=0-3999") == 2


def test_an_object_that_is_not_what_was_written_is_named_and_never_used(bucket: Any) -> None:
    name = shards.open(bucket.local).split("train").meta.parts[0].file
    content = bytearray((bucket.local / name).read_bytes())
    content[-2000] ^= 4
    bucket.put(name, bytes(content))
    with pytest.raises(UserError, match=rf"s3://bucket/sets/photos/{name}: the checksum of sample"):
        batches(bucket.url)
    assert any(name in problem for problem in verify(bucket.url).problems)
    labels = (bucket.local / "train.index/labels.npy").read_bytes()
    bucket.put("train.index/labels.npy", labels[:-1] + b"\x01")
    bucket.put("dataset.json", (bucket.local / "dataset.json").read_bytes() + b"\n")
    with pytest.raises(UserError, match=r"labels\.npy: its digest is not dataset\.json's"):
        batches(bucket.url)
    assert not list(shards.open(bucket.url).dir.rglob("*.part"))


def test_a_data_set_written_again_is_another_and_the_old_one_is_not_touched(bucket: Any) -> None:
    before = shards.open(bucket.url)
    assert len(before.split("train").bytes(0))
    meta = json.loads((bucket.local / "dataset.json").read_text())
    bucket.put("dataset.json", json.dumps(meta | {"name": "others"}).encode())
    after = shards.open(bucket.url)
    assert (before.name, after.name) == (meta["name"], "others")
    assert before.dir.name == after.dir.name == "photos"
    assert before.dir != after.dir
    assert shards.open(before.dir).name == meta["name"]


def test_missing_things_are_named(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"s3://bucket/nothing holds no shards \(no dataset\.json"):
        shards.open("s3://bucket/nothing")
    with pytest.raises(UserError, match=r"nowhere://x: no store that fsspec knows"):
        shards.open("nowhere://x")
    name = shards.open(bucket.local).split("train").meta.parts[1].file
    bucket.client.delete_object(Bucket="bucket", Key=f"sets/photos/{name}")
    with pytest.raises(UserError, match=rf"{name}: not there: the data set is not whole"):
        batches(bucket.url)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtra, match=r'fsspec, .*pip install "fasttail\[remote\]"'):
        shards.open("s3://bucket/again")


def test_files_that_lie_outside_of_the_url_are_refused(bucket: Any) -> None:
    text = (bucket.local / "dataset.json").read_text()
    bucket.put("dataset.json", text.replace("train-00000.beton", "../../../evil.beton").encode())
    with pytest.raises(UserError, match=r"evil\.beton lies outside of it"):
        shards.open(bucket.url).split("train").bytes(0)


@pytest.mark.parametrize(
    "url", ["s3://key:hunter2@bucket/sets", "https://host/x?X-Amz-Signature=hunter2"]
)
def test_credentials_in_a_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UserError, match="credentials by the store's own means") as raised:
        shards.open(url)
    assert "hunter2" not in str(raised.value)


def test_a_refusal_is_said_at_once_without_the_key(bucket: Any) -> None:
    fails(bucket, 10**6, "status", 403, of="")
    with pytest.raises(UserError, match=r"dataset\.json: refused \(PermissionError") as raised:
        shards.open(bucket.url)
    assert "a-very-secret-key" not in str(raised.value)


def test_the_cache_keeps_its_size_and_what_is_in_use(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sum(path.stat().st_size for path in bucket.local.rglob("*") if path.is_file())
    monkeypatch.setenv("FASTTAIL_CACHE_SIZE", f"{1.5 * whole / 1000:.0f}kB")
    assert same_as_local(bucket)
    old = shards.open(bucket.url)
    assert list(old.dir.glob("*.beton"))
    meta = (bucket.local / "dataset.json").read_bytes()
    bucket.put("dataset.json", meta + b"\n")

    used = old.split("train")
    with pytest.raises(UserError, match=r"no room for photos: .*FASTTAIL_CACHE_SIZE"):
        batches(bucket.url)
    assert list(old.dir.glob("*.beton"))
    del old, used
    assert same_as_local(bucket)
    folder = shards.open(bucket.url).dir.parents[1]
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert sum(sizes) <= 1.5 * whole
    monkeypatch.setenv("FASTTAIL_CACHE_SIZE", "plenty")
    bucket.put("dataset.json", meta + b"\n\n")
    with pytest.raises(UserError, match=r"FASTTAIL_CACHE_SIZE can't be read: .*write it like 4GiB"):
        batches(bucket.url)


READ = """
import sys
from fasttail import shards
split = shards.open(sys.argv[1]).split("train")
print(sum(int(split.bytes(i).sum()) for i in range(len(split))))
"""


def test_processes_of_a_machine_share_what_one_of_them_fetches(bucket: Any) -> None:
    command = [sys.executable, "-c", READ, bucket.url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    split = shards.open(bucket.local).split("train")
    assert [int(line) for line in said] == [sum(int(split.bytes(i).sum()) for i in range(20))] * 2
    for part in split.meta.parts:
        ranges = asked(bucket, part.file)
        assert len(ranges) == len(set(ranges)) > 0


def test_any_store_of_fsspecs_will_do(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(bucket.local), "/kept/photos", recursive=True)
    theirs, ours = batches(bucket.local), batches("memory://kept/photos/")
    assert all(np.array_equal(a, b) for a, b in zip(theirs, ours, strict=True))
    memory.rm("/kept", recursive=True)


def test_a_training_from_a_bucket_is_the_one_from_the_folder_and_keeps_no_key(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["model.backbone=resnet20", "optim.epochs=1", "optim.batch_size=8", "data.px=32"]
    settings += ["compute.amp=fp32", "compute.tensorboard=false", "compute.report=false"]
    settings += ["classify.crt.epochs=1", "classify.crt.batch_size=8", "data.engine=ffcv"]
    weights = []
    for name, place in (("local", str(bucket.local)), ("remote", bucket.url)):
        words = ["--stage", "rep", "--shards", place, "--run", name]
        words += [word for setting in settings for word in ("--set", setting)]
        for command in (["train", *words], ["train", "--stage", "cls", "--run", name]):
            assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
        weights.append(Path(name, "heads/crt.safetensors").read_bytes())
        written = b"".join(path.read_bytes() for path in Path(name).rglob("*") if path.is_file())
        assert b"a-very-secret-key" not in written
    assert weights[0] == weights[1]
    run = rundir.open_run(Path("remote"))
    assert run.shards_dir == bucket.url
    assert run.shards_digest == shards.open(bucket.local).digest
