import json
import os
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
import photos
import pytest
from PIL import Image, ImageOps

from fasttail import shards
from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.errors import UserError
from fasttail.shards import Split
from fasttail.shards.convert import convert
from fasttail.shards.image import pixels_of

CFG = ConvertConfig(jobs=2)
COUNTS = (9, 5, 2)


def train(out: Path, index: Index, **options: object) -> Split:
    return convert(index, out, CFG.model_copy(update=options)).split("train")


def stored_pixels(split: Split, i: int) -> np.ndarray:
    size = int(split.heights_N[i]), int(split.widths_N[i])
    return pixels_of(int(split.modes_N[i]), *size, split.bytes(i).tobytes())


@pytest.mark.parametrize("form", ["beton", "tar"])
def test_jpegs_go_in_byte_for_byte(tmp_path: Path, form: str) -> None:
    samples = photos.jpegs(COUNTS)
    split = train(tmp_path / "out", photos.index(tmp_path / "in", samples), format=form)
    assert len(split) == len(samples) == 16
    for i, (path, content, label) in enumerate(samples):
        assert split.bytes(i).tobytes() == content
        assert split.labels_N[i] == label
        assert split.source_name(i) == path
        assert split.crc32_N[i] == crc32(content)
        assert split.modes_N[i] == 0
        assert (split.widths_N[i], split.heights_N[i]) == photos.opened(tmp_path / "in" / path).size
    assert split.counts_C.tolist() == list(COUNTS)
    assert not (tmp_path / "out/.convert").exists()


def odd_samples() -> list[tuple[str, bytes, int]]:
    samples = photos.jpegs((4, 3))
    samples += [
        ("c0/cmyk.jpg", photos.encoded(50, mode="CMYK"), 0),
        ("c0/a.png", photos.encoded(51, "PNG", "RGBA"), 0),
        ("c1/p.png", photos.encoded(52, "PNG", "P"), 1),
        ("c1/w.webp", photos.encoded(53, "WEBP"), 1),
        ("c1/b.bmp", photos.encoded(54, "BMP"), 1),
        ("c1/t.tif", photos.encoded(55, "TIFF"), 1),
        ("c1/really-png.jpg", photos.encoded(56, "PNG"), 1),
        ("c1/really-jpeg.png", photos.encoded(57, "JPEG"), 1),
        ("c1/small.png", photos.encoded(58, "PNG", size=(64, 10)), 1),
    ]
    return samples


@pytest.mark.parametrize("form", ["beton", "tar"])
def test_the_same_bytes_come_out_of_any_number_of_workers(tmp_path: Path, form: str) -> None:
    index = photos.index(tmp_path / "in", odd_samples(), measured=True)
    one = convert(index, tmp_path / "1", CFG.model_copy(update={"jobs": 1, "format": form}))
    convert(index, tmp_path / "3", CFG.model_copy(update={"jobs": 3, "format": form}))
    assert photos.tree(tmp_path / "1") == photos.tree(tmp_path / "3")
    assert one.meta.kinds["train"]["as is"] == 8
    assert 0.3 < one.meta.mean[0] < 0.7


def test_other_formats_become_jpegs_of_the_same_picture(tmp_path: Path) -> None:
    samples = odd_samples()
    split = train(tmp_path / "out", photos.index(tmp_path / "in", samples))
    for i, (path, content, _) in enumerate(samples):
        source = np.asarray(photos.opened(tmp_path / "in" / path).convert("RGB"))
        stored = stored_pixels(split, i)
        if "small" in path:
            assert split.modes_N[i] == 1
            assert np.array_equal(stored, source), "small images without loss lose nothing"
        else:
            assert split.modes_N[i] == 0
            error = np.abs(stored.astype(int) - source).mean()
            assert error < 4, path
        kept = split.bytes(i).tobytes() == content
        assert kept == (i < 7 or path == "c1/really-jpeg.png")


def test_the_content_s_digest_is_the_same_in_every_container_and_number_of_parts(
    tmp_path: Path,
) -> None:
    index = photos.index(tmp_path / "in", odd_samples())
    made = {
        name: convert(index, tmp_path / name, CFG.model_copy(update=options))
        for name, options in {
            "beton": {},
            "tar": {"format": "tar"},
            "parts": {"part_size": 20_000},
        }.items()
    }
    assert len({m.digest for m in made.values()}) == 1
    assert len(made["parts"].meta.splits["train"].parts) > 2
    other = photos.index(tmp_path / "other", photos.jpegs((4, 4)))
    assert convert(other, tmp_path / "o", CFG).digest != made["beton"].digest


@pytest.mark.parametrize("form", ["beton", "tar"])
def test_the_table_spans_parts(tmp_path: Path, form: str) -> None:
    samples = photos.jpegs(COUNTS)
    index = photos.index(tmp_path / "in", samples)
    split = train(tmp_path / "out", index, part_size=12_000, format=form)
    assert len(split.part_paths) > 3
    assert len(set(split.parts_N.tolist())) == len(split.part_paths)
    for i, (_, content, _) in enumerate(samples):
        assert split.bytes(i).tobytes() == content
    grouped = [sorted(np.flatnonzero(split.labels_N == c)) for c in range(3)]
    bounds = split.indptr_C1
    assert [split.samples_N[bounds[c] : bounds[c + 1]].tolist() for c in range(3)] == grouped


def test_torchrun_s_processes_write_what_one_writes(tmp_path: Path) -> None:
    samples = photos.jpegs((150, 120)) + odd_samples()[7:]
    photos.index(tmp_path / "in/train", samples)
    code = (
        "import sys; from pathlib import Path; from fasttail.datasets import index;"
        "from fasttail.config import ConvertConfig; from fasttail.shards.convert import convert;"
        "cfg = ConvertConfig(jobs=1, part_size=700_000);"
        "convert(index('folder', Path(sys.argv[1]), cfg), Path(sys.argv[2]), cfg)"
    )
    (tmp_path / "run.py").write_text(code)
    run = [str(tmp_path / "run.py"), str(tmp_path / "in")]
    together = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *together, *run, str(tmp_path / "2")], check=True, env=env)
    subprocess.run([sys.executable, *run, str(tmp_path / "1")], check=True, env=env)
    one = photos.tree(tmp_path / "1")
    assert one == photos.tree(tmp_path / "2")
    assert sum(name.endswith(".beton") for name in one) > 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_ignored_or_applied_as_asked(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = photos.encoded(3, exif=exif, quality=95, subsampling=0)
    index = photos.index(tmp_path / "in", [("c0/x.jpg", content, 0)])
    ignored = train(tmp_path / "i", index)
    assert ignored.bytes(0).tobytes() == content
    applied = train(tmp_path / "a", index, exif="apply")
    turned = ImageOps.exif_transpose(photos.opened(tmp_path / "in/c0/x.jpg")).convert("RGB")
    assert (applied.widths_N[0], applied.heights_N[0]) == turned.size
    assert np.abs(stored_pixels(applied, 0).astype(int) - np.asarray(turned)).mean() < 3
    assert (applied.bytes(0).tobytes() == content) == (orientation == 1)
    assert shards.open(tmp_path / "a").meta.made["exif"] == "apply"


BAD = {
    "empty": b"",
    "text": b"this is no image",
    "truncated": photos.encoded(1)[:-700],
    "no end": photos.encoded(1)[:-2],
    "half a header": photos.encoded(1)[:30],
    "half a png": photos.encoded(1, "PNG")[:3000],
}


@pytest.mark.parametrize("check", ["decode", "header"])
def test_bad_images_are_listed_or_left_out(tmp_path: Path, check: str) -> None:
    samples = photos.jpegs((4, 2))
    samples[2:2] = [(f"c0/{name}.jpg", content, 0) for name, content in BAD.items()]
    index = photos.index(tmp_path / "in", samples)
    (tmp_path / "in/c0/0.jpg").unlink()
    with pytest.raises(UserError, match="7 bad images") as raised:
        train(tmp_path / "out", index, check=check)
    for name in (*BAD, "0"):
        assert f"c0/{name}.jpg: " in str(raised.value)
    assert "--on-bad skip" in str(raised.value)
    assert not list((tmp_path / "out").glob("*.beton"))
    assert not (tmp_path / "out/dataset.json").exists()

    split = train(tmp_path / "out", index, check=check, on_bad="skip")
    good = [content for path, content, _ in samples[1:] if content not in BAD.values()]
    assert [split.bytes(i).tobytes() for i in range(len(split))] == good
    assert split.counts_C.tolist() == [3, 2]
    rejected = (tmp_path / "out/rejected.csv").read_text().splitlines()
    assert len(rejected) == 8
    assert shards.open(tmp_path / "out").meta.rejected == {"train": 7}


def test_a_class_without_a_good_image_is_named(tmp_path: Path) -> None:
    samples = [*photos.jpegs((3,)), ("c1/x.jpg", b"no image", 1)]
    with pytest.raises(UserError, match="every image of class 'c1' in train is bad"):
        train(tmp_path / "out", photos.index(tmp_path / "in", samples), on_bad="skip")


def test_an_image_of_more_pixels_than_allowed_is_not_decoded(tmp_path: Path) -> None:
    bomb = Image.new("1", (20_000, 20_000))
    (tmp_path / "in/c0").mkdir(parents=True)
    bomb.save(tmp_path / "in/c0/bomb.png")
    samples = [*photos.jpegs((3,)), ("c0/bomb.png", (tmp_path / "in/c0/bomb.png").read_bytes(), 0)]
    index = photos.index(tmp_path / "in", samples)
    with pytest.raises(UserError, match=r"bomb\.png: 20000x20000 is more than 100 million pixels"):
        train(tmp_path / "out", index)


def test_damage_that_pillow_overlooks_is_stored_re_encoded(tmp_path: Path) -> None:
    kernels = pytest.importorskip("fasttail.kernels")
    if not kernels.available():
        pytest.skip("the decoding kernel is not built")
    content = bytearray(photos.encoded(1, subsampling=0, quality=90))
    middle = len(content) // 2
    content[middle : middle + 2] = b"\xff\xd3"  # a restart marker where there are none
    photos.opened(content).load()  # Pillow has no objection
    index = photos.index(tmp_path / "in", [*photos.jpegs((2,)), ("c0/d.jpg", bytes(content), 0)])
    assert kernels.jpeg_check(bytes(content)), "the damage is seen"
    split = train(tmp_path / "out", index)
    assert kernels.jpeg_check(split.bytes(2)) is None
    assert "c0/d.jpg" in (tmp_path / "out/damaged.csv").read_text()


def test_pixels_in_memory_are_stored_as_they_are(tmp_path: Path) -> None:
    pixels = np.stack([photos.photo(i, 32, 48) for i in range(300)])
    split = SplitIndex(ArrayImages(pixels, "array"), np.arange(300) % 7)
    index = Index("arrays", tuple("abcdefg"), {"train": split}, None, None)
    for form in ("beton", "tar"):
        found = train(tmp_path / form, index, format=form)
        assert (found.modes_N == 1).all()
        assert all(np.array_equal(stored_pixels(found, i), pixels[i]) for i in range(0, 300, 7))
    mean, std = shards.open(tmp_path / "tar").meta.mean, shards.open(tmp_path / "tar").meta.std
    assert mean == pytest.approx((pixels / 255).mean((0, 1, 2)))
    assert std == pytest.approx((pixels / 255).std((0, 1, 2)))


def test_what_is_there_is_not_made_again_and_others_are_not_overwritten(tmp_path: Path) -> None:
    index = photos.index(tmp_path / "in", photos.jpegs((3, 2)))
    train(tmp_path / "out", index)
    before = (tmp_path / "out/train-00000.beton").stat()
    train(tmp_path / "out", index)
    assert (tmp_path / "out/train-00000.beton").stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(UserError, match="holds shards already"):
        train(tmp_path / "out", index, max_side=50)
    other = photos.index(tmp_path / "in2", photos.jpegs((3, 3)))
    with pytest.raises(UserError, match="holds shards already"):
        train(tmp_path / "out", other)


def test_finished_parts_are_taken_up(tmp_path: Path) -> None:
    index = photos.index(tmp_path / "in", photos.jpegs((9, 5)))
    whole = train(tmp_path / "whole", index, part_size=12_000)

    class Stop(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if done > 7:
            raise Stop

    cfg = CFG.model_copy(update={"part_size": 12_000, "jobs": 1})
    with pytest.raises(Stop):
        convert(index, tmp_path / "out", cfg, stop)
    there = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.beton")}
    assert 0 < len(there) < len(whole.part_paths)
    with pytest.raises(UserError, match="not finished"):
        shards.open(tmp_path / "out")
    convert(index, tmp_path / "out", cfg)
    for name, time in there.items():
        assert (tmp_path / "out" / name).stat().st_mtime_ns == time
    assert photos.tree(tmp_path / "out") == photos.tree(tmp_path / "whole")


def test_a_changed_source_is_noticed_when_going_on(tmp_path: Path) -> None:
    index = photos.index(tmp_path / "in", [*photos.jpegs((9, 5)), ("c1/bad.jpg", b"bad", 1)])
    with pytest.raises(UserError, match="1 bad image"):
        train(tmp_path / "out", index, part_size=12_000)
    assert list((tmp_path / "out").glob("*.beton")), "good parts are kept"
    (tmp_path / "in/c0/0.jpg").write_bytes(photos.encoded(99))
    (tmp_path / "in/c1/bad.jpg").write_bytes(photos.encoded(98))
    split = train(tmp_path / "out", index, part_size=12_000)
    assert split.bytes(0).tobytes() == photos.encoded(99)
    assert split.bytes(14).tobytes() == photos.encoded(98)


def test_dataset_json_says_how_it_was_made(tmp_path: Path) -> None:
    index = photos.index(tmp_path / "in", photos.jpegs((3, 2)))
    train(tmp_path / "out", index, max_side=64)
    meta = json.loads((tmp_path / "out/dataset.json").read_text())
    assert meta["made"]["max_side"] == 64
    assert meta["made"]["exif"] == "ignore"
    assert meta["written_by"].startswith("fasttail ")
    assert meta["splits"]["train"]["parts"][0]["bytes"] > 0


def test_a_split_travels_to_other_processes(tmp_path: Path) -> None:
    import pickle

    index = photos.index(tmp_path / "in", photos.jpegs((3, 2)))
    split = train(tmp_path / "out", index)
    split.bytes(0)
    text = pickle.dumps(split)
    assert len(text) < 5000
    again = pickle.loads(text)  # noqa: S301 - it was pickled a line above
    assert np.array_equal(again.bytes(4), split.bytes(4))
    assert split.where(4) == "train-00000.beton: sample 4 (class 1 'c1', from c1/1.jpg)"
    with pytest.raises(UserError, match=r"unknown split.*'tran' \(did you mean 'train'"):
        shards.open(tmp_path / "out").split("tran")
    with pytest.raises(UserError, match=r"holds no shards.*fasttail convert"):
        shards.open(tmp_path)
