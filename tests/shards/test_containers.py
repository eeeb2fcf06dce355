"""Other people's readers on our files: stock FFCV on .beton, tarfile and DALI on .tar."""

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import photos
import pytest
import stock_ffcv

from fasttail import shards
from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.shards import Split
from fasttail.shards.beton import PAGE, Beton
from fasttail.shards.convert import convert
from fasttail.shards.image import pixels_of
from fasttail.shards.tarindex import index_tars
from fasttail.shards.verify import verify

CFG = ConvertConfig(jobs=2)


def pixels(split: Split, i: int) -> np.ndarray:
    size = int(split.heights_N[i]), int(split.widths_N[i])
    return pixels_of(int(split.modes_N[i]), *size, split.bytes(i).tobytes())


@pytest.mark.parametrize("pages", [1, 2, 5])
def test_no_sample_straddles_a_page_of_the_size_that_the_header_says(pages: int) -> None:
    rng = np.random.default_rng(pages)
    sizes = rng.integers(1, 200_000, 300).tolist()
    sizes[150] = PAGE * pages - 7
    cursor, places = Beton().start(len(sizes)), []
    for size in sizes:
        places.append(Beton().place(cursor, size))
        assert places[-1] >= cursor
        cursor = places[-1] + size
    columns = {name: np.zeros(300, np.int64) for name in ("modes", "widths", "heights", "labels")}
    columns |= {"offsets": np.array(places), "sizes": np.array(sizes)}
    head, _ = Beton().surroundings(cursor, columns)
    page = int.from_bytes(head[4:8], "little")
    assert page >= PAGE
    assert page & (page - 1) == 0
    assert all(
        at // page == (at + size - 1) // page for at, size in zip(places, sizes, strict=True)
    )
    wasted = cursor - sum(sizes)
    assert wasted < sum(sizes) // 20 + 2 * PAGE * pages


@pytest.mark.ffcv
@pytest.mark.parametrize("os_cache", [True, False])
def test_stock_ffcv_reads_raw_images_pixel_for_pixel(tmp_path: Path, os_cache: bool) -> None:
    pytest.importorskip("ffcv", reason="the ffcv extra")
    images = np.stack([photos.photo(i, 32, 48) for i in range(10)])
    split = SplitIndex(ArrayImages(images, "array"), np.arange(10) % 3)
    index = Index("arrays", ("a", "b", "c"), {"train": split}, photos.HALF, photos.HALF)
    convert(index, tmp_path, CFG)
    found, labels = stock_ffcv.read(tmp_path / "train-00000.beton", "simple", os_cache, tmp_path)
    assert np.array_equal(found, images)
    assert labels.tolist() == (np.arange(10) % 3).tolist()


@pytest.mark.ffcv
@pytest.mark.parametrize("os_cache", [True, False])
def test_stock_ffcv_reads_every_image_also_those_kept_decoded_and_one_larger_than_a_page(
    tmp_path: Path, os_cache: bool
) -> None:
    pytest.importorskip("ffcv", reason="the ffcv extra")
    noise = np.random.default_rng(0).integers(0, 256, (1800, 2400, 3), dtype=np.uint8)
    large = photos.encode(noise, quality=100, subsampling=0)
    assert len(large) > PAGE
    samples = [*photos.jpegs((9, 4)), ("c1/large.jpg", large, 1)]
    samples.append(("c1/last.jpg", photos.encoded(7), 1))
    samples.insert(2, ("c0/small.png", photos.encoded(8, "PNG", size=(50, 60)), 0))
    index = photos.index(tmp_path / "in", samples)
    split = convert(index, tmp_path / "out", CFG.model_copy(update={"raw_budget": "20%"}))
    split = split.split("train")
    assert split.modes_N.sum() == 1
    assert split.cache is not None
    assert split.cache.meta.images == 3
    found, labels = stock_ffcv.read(split.part_paths[0], "64", os_cache, tmp_path)
    assert labels.tolist() == split.labels_N.tolist()
    import cv2

    for i, seen in enumerate(found):
        whole = pixels(split, i)
        side = min(whole.shape[:2])
        top, left = (whole.shape[0] - side) // 2, (whole.shape[1] - side) // 2
        square = whole[top : top + side, left : left + side]
        expected = cv2.resize(square, (64, 64), interpolation=cv2.INTER_AREA).astype(int)
        # FFCV decodes by the fast DCT: close, not equal. Raw pixels are resized alike.
        error = np.abs(seen.astype(int) - expected)
        assert error.mean() < (0.1 if split.modes_N[i] else 2), (i, split.modes_N[i])


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tars")
    samples = photos.jpegs((9, 6, 5))
    samples.insert(3, ("c0/bad.jpg", b"\xff\xd8\xff no image", 0))
    samples.insert(9, ("c1/x.png", photos.encoded(3, "PNG"), 1))
    samples[5:5] = [(f"c0/{i}.png", photos.encoded(i, "PNG", size=(40, 50)), 0) for i in range(2)]
    cfg = CFG.model_copy(update={"format": "tar", "part_size": 30_000, "on_bad": "skip"})
    convert(photos.index(folder / "in", samples), folder / "out", cfg)
    return folder / "out"


def test_tarfile_reads_samples_and_labels(tars: Path) -> None:
    split = shards.open(tars).split("train")
    found = {}
    for path in split.part_paths:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    del found["__left_out__"]
    images = sorted(name for name in found if not name.endswith(".cls"))
    assert len(images) == len(split) == 23
    assert sum(name.endswith(".ppm") for name in images) == 2
    by_place = np.lexsort((split.offsets_N, split.parts_N))
    order = iter(by_place)
    for path in split.part_paths:
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                if name.endswith((".jpg", ".ppm")):
                    i = int(next(order))
                    assert found[name].endswith(split.bytes(i).tobytes())
                    assert int(found[name[:-4] + ".cls"]) == split.labels_N[i]


def test_the_index_file_is_the_one_that_dali_s_tool_makes(tars: Path, tmp_path: Path) -> None:
    wds2idx = pytest.importorskip("wds2idx", reason="the dali extra")
    for path in sorted(tars.glob("*.tar"))[1:]:  # the first has a gap, which the tool lists
        with wds2idx.IndexCreator(str(path), str(tmp_path / "x.idx"), verbose=False) as creator:
            creator.create_index()
        assert (tmp_path / "x.idx").read_text() == path.with_suffix(".idx").read_text()


@pytest.mark.dali
@pytest.mark.filterwarnings("ignore")
def test_dali_s_own_reader_reads_the_tars(tars: Path) -> None:
    dali = pytest.importorskip("nvidia.dali", reason="the dali extra")
    split = shards.open(tars).split("train")

    @dali.pipeline_def(batch_size=len(split), num_threads=1, device_id=None)
    def pipeline() -> Any:
        image, label = dali.fn.readers.webdataset(
            paths=[str(path) for path in split.part_paths],
            index_paths=[str(path.with_suffix(".idx")) for path in split.part_paths],
            ext=["jpg;ppm", "cls"],
        )
        return image, dali.fn.decoders.image(image), label

    made = pipeline()
    made.build()
    files, images, labels = made.run()
    by_place = np.lexsort((split.offsets_N, split.parts_N))
    for k, i in enumerate(by_place):
        assert files.at(k).tobytes().endswith(split.bytes(i).tobytes())
        assert int(labels.at(k).tobytes()) == split.labels_N[i]
        decoded = images.at(k).astype(int)
        assert np.abs(decoded - pixels(split, int(i))).mean() < (0.01 if split.modes_N[i] else 2)


def test_tars_that_exist_are_indexed_where_they_are(tars: Path, tmp_path: Path) -> None:
    before = photos.tree(tars)
    out = tmp_path / "index"
    made = index_tars(sorted(tars.glob("*.tar")), out, CFG)
    assert photos.tree(tars) == before
    assert sum(path.stat().st_size for path in out.rglob("*")) < 100_000
    split, theirs = made.split("train"), shards.open(tars).split("train")
    assert len(split) == len(theirs)
    by_place = np.lexsort((theirs.offsets_N, theirs.parts_N))
    for i, j in enumerate(by_place):
        assert np.array_equal(split.bytes(i), theirs.bytes(int(j)))
        assert split.labels_N[i] == theirs.labels_N[j]
        assert split.modes_N[i] == theirs.modes_N[j]
        assert (split.heights_N[i], split.widths_N[i]) == (theirs.heights_N[j], theirs.widths_N[j])
    assert not verify(out).problems


def test_indexing_rejects_what_can_not_be_read_where_it_is(tmp_path: Path) -> None:
    import smallsets

    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for k, content in enumerate([photos.encoded(1), photos.encoded(2, "PNG"), b"junk"]):
            smallsets.add(tar, f"{k}.jpg", content)
            smallsets.add(tar, f"{k}.json", b'{"kind": "%s"}' % (b"newt" if k else b"asp"))
        smallsets.add(tar, "3.jpg", photos.encoded(3))
        smallsets.add(tar, "3.json", b'{"kind": "newt"}')
    cfg = CFG.model_copy(update={"label_key": "kind", "on_bad": "skip"})
    split = index_tars([tmp_path / "train.tar"], tmp_path / "out", cfg).split("train")
    assert split.class_names == ("asp", "newt")
    assert split.counts_C.tolist() == [1, 1]
    assert split.source_name(1) == "train.tar/3.jpg"
    rejected = (tmp_path / "out/rejected.csv").read_text()
    assert "train.tar/1.jpg,newt,no JPEG that can be used where it is" in rejected
    assert "train.tar/2.jpg" in rejected
