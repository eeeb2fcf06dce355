"""iNaturalist 2018: `train2018.json`, `val2018.json` (COCO-style), or list files.

The JSON of train has 120 MB and half a million entries; only the keys that are used are kept while
it is read, so that it takes memory in proportion to the paths.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fasttail.config import ConvertConfig
from fasttail.datasets import lists, published
from fasttail.datasets.base import Index
from fasttail.datasets.folder import need_folder
from fasttail.datasets.lists import Listed
from fasttail.datasets.namelist import Names
from fasttail.errors import UserError

MAX_JSON_BYTES = 1 << 30
_FILES = {"train": "train2018.json", "val": "val2018.json"}
_USED = ("id", "file_name", "image_id", "category_id", "name")
_LISTS = ("images", "annotations", "categories")


def index(source: Path | None, cfg: ConvertConfig) -> Index:
    """Raises `UserError` if neither JSON nor lists are there, or they do not fit together."""
    root = need_folder("inat2018", source)
    folder = cfg.lists or root
    if not (folder / _FILES["train"]).is_file():
        return lists.index(source, cfg, name="inat2018")
    found: dict[str, Listed] = {}
    class_names: tuple[str, ...] = ()
    for split, file in _FILES.items():
        if (folder / file).is_file():
            found[split], names = read_json(folder / file)
            class_names = class_names or names
    known = published.KNOWN["inat2018"]
    made = lists.from_lists(
        "inat2018",
        root,
        found,
        known.layouts,
        cfg,
        stats=known.stats,
        val_fraction=0.0,
        class_names=class_names,
    )
    return published.check(made, "inat2018", cfg)


def read_json(path: Path) -> tuple[Listed, tuple[str, ...]]:
    """(images with labels, class names) of a COCO-style file: one annotation an image.

    Raises `UserError` if it is not such a file.
    """
    content = _load(path)
    try:
        file_names = {entry["id"]: entry["file_name"] for entry in content["images"]}
        label_of = {entry["image_id"]: entry["category_id"] for entry in content["annotations"]}
        categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        ids = list(file_names)
        labels_N = np.array([label_of[i] for i in ids], np.int64)
        names = Names.of(file_names[i] for i in ids)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path}: not iNaturalist's form (images, annotations, categories): "
            f"{type(error).__name__}: {error}"
        ) from None
    if sorted(categories) != list(range(len(categories))):
        raise UserError(f"{path}: its categories are not numbered 0 to {len(categories) - 1}")
    if not len(labels_N) or labels_N.min() < 0:
        raise UserError(f"{path}: it has no images, or a category below 0")
    return Listed(path, names, labels_N), tuple(categories[c] for c in range(len(categories)))


def _load(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise UserError(f"{path}: more than {MAX_JSON_BYTES >> 30} GiB: not iNaturalist's")

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in pairs if key in _USED or key in _LISTS}

    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=keep)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not iNaturalist's form: no object")
    return content
