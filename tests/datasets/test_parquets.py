import io
import json
from pathlib import Path

import numpy as np
import pytest
import smallsets
from PIL import Image

from fasttail import datasets
from fasttail.config import ConvertConfig
from fasttail.datasets import parquets
from fasttail.datasets.base import Index
from fasttail.errors import UserError

pa = pytest.importorskip("pyarrow", reason="the parquet extra")
from pyarrow import parquet  # noqa: E402

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def rows(count: int, first: int = 0) -> list[tuple[dict[str, object], int]]:
    images = [
        smallsets.image_bytes(first + i, "PNG" if i % 4 == 3 else "JPEG") for i in range(count)
    ]
    return [({"bytes": data, "path": f"{first + i}.jpg"}, i % 3) for i, data in enumerate(images)]


def write(path: Path, listed: list[tuple[dict[str, object], int]], names: list[str] | None) -> None:
    """As the `datasets` package writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images, labels = zip(*listed, strict=True)
    schema = pa.schema([("image", IMAGE), ("label", pa.int64())])
    if names:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        schema = schema.with_metadata({"huggingface": json.dumps(info)})
    columns = [pa.array(images, IMAGE), pa.array(labels, pa.int64())]
    parquet.write_table(pa.Table.from_arrays(columns, schema=schema), path, row_group_size=4)


def hub(root: Path) -> Path:
    """A data set as the hub distributes it: two files of train, one of test."""
    for number in range(2):
        write(root / f"data/train-0000{number}-of-00002.parquet", rows(9, 20 * number), list("xyz"))
    write(root / "data/test-00000-of-00001.parquet", rows(6, 90), list("xyz"))
    write(root / "data/extra.parquet", rows(3, 99), None)  # of no split
    return root


def found(root: Path, **options: object) -> Index:
    return datasets.index("parquet", root, ConvertConfig.model_validate(options))


def test_images_of_the_hub_are_read_with_their_classes(tmp_path: Path) -> None:
    index = found(hub(tmp_path), val_fraction=0)
    assert index.class_names == ("x", "y", "z")
    assert {split: index.counts(split).tolist() for split in index.splits} == {
        "train": [6, 6, 6],
        "test": [2, 2, 2],
    }
    train = index.splits["train"]
    expected = [*rows(9), *rows(9, 20)]
    assert train.labels_N.tolist() == [label for _, label in expected]
    facts = train.images.facts()
    for i, (image, _) in enumerate(expected):
        assert train.images.read(i) == image["bytes"]
        assert facts.bytes_N[i] == len(train.images.read(i))
        assert facts.plain_N[i] == (i % 9 % 4 != 3)
        assert train.images.name(i).endswith(f"/{image['path']}")
    which = np.array([17, 3, 9])
    picked = train.images.pick(which)
    assert [picked.read(k) for k in range(3)] == [train.images.read(int(i)) for i in which]


def test_a_val_is_held_out_of_them_and_copies_stay_together(tmp_path: Path) -> None:
    one = rows(30)
    write(tmp_path / "train.parquet", one + one, None)
    index = found(tmp_path, val_fraction=0.2)
    assert index.class_names == ("0", "1", "2")
    held, kept = (
        {split.images.read(i) for i in range(len(split.images))}
        for split in (index.splits["val"], index.splits["train"])
    )
    assert len(held) == 6
    assert not held & kept


def test_a_file_is_read_a_row_group_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(tmp_path)
    read = parquet.ParquetFile.read_row_group
    seen = []

    def watched(file: parquet.ParquetFile, *given: object, **options: object) -> object:
        table = read(file, *given, **options)
        seen.append(len(table))
        return table

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", watched)
    monkeypatch.setattr(parquet.ParquetFile, "read", None)
    train = found(tmp_path, val_fraction=0).splits["train"]
    seen.clear()
    parquets._row_group.cache_clear()
    for i in range(18):
        train.images.read(i)
    assert seen == [4, 4, 1, 4, 4, 1]


def test_an_image_that_is_not_there_or_another_is_a_bad_image(tmp_path: Path) -> None:
    listed = [*rows(5), ({"bytes": None, "path": "elsewhere.jpg"}, 0), (None, 1)]
    write(tmp_path / "train.parquet", listed, None)
    images = found(tmp_path, val_fraction=0).splits["train"].images
    for i in (5, 6):
        with pytest.raises(OSError, match="no image"):
            images.read(i)
    parquets._row_group.cache_clear()
    write(tmp_path / "train.parquet", rows(7, 50), None)
    with pytest.raises(OSError, match="not what it was"):
        images.read(0)


def test_a_column_of_something_else_is_named(tmp_path: Path) -> None:
    table = pa.table({"image": [[1, 2], [3]], "label": [0, 1]})
    parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"train.parquet.*'path'.*it has image, label"):
        found(tmp_path)
    with pytest.raises(UserError, match=r"train.parquet.*'image' holds list.*no images"):
        found(tmp_path, columns=("image", "label"))


def test_names_that_are_not_the_classes_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", rows(9), ["x", "y"])
    assert found(tmp_path).class_names == ("0", "1", "2")


def test_an_image_of_a_column_decodes(tmp_path: Path) -> None:
    image = found(hub(tmp_path)).splits["test"].images.read(0)
    assert isinstance(image, bytes)
    assert Image.open(io.BytesIO(image)).size == (15, 12)


def test_absolute_paths_below_the_source_are_taken(tmp_path: Path) -> None:
    images = tmp_path / "images"
    smallsets.write_images(images, [f"{c}/{i}.jpg" for c in "ab" for i in range(4)])
    lines = [f"{images}/{c}/{i}.jpg,{c}" for c in "ab" for i in range(4)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *lines]))
    cfg = ConvertConfig(lists=tmp_path / "table.csv", val_fraction=0)
    train = datasets.index("csv", images, cfg).splits["train"]
    assert train.images.name(0) == "a/0.jpg"
    with pytest.raises(UserError, match="not a path relative"):
        datasets.index("csv", images / "a", cfg)
