"""CIFAR-10-LT and CIFAR-100-LT: CIFAR with n_j = int(n_max * IF^(-j / (C - 1))) images of class j.

From the python files that torchvision downloads (`cifar-10-batches-py/`, `cifar-100-python/`, or
one of these folders itself), or from folders `train/<class>/*`, `test/<class>/*`. With 5,000 (500)
images a class and an imbalance of 100, 12,406 (10,847) images are left; with 50, 13,996 (12,608).

The python files are pickles, which can run any code when they are loaded the usual way. Here only
what the real files hold is admitted: containers, numbers, text, and numpy arrays of bytes.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from fasttail.config import ConvertConfig
from fasttail.datasets import folder
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.datasets.longtail import make_long_tailed
from fasttail.errors import UserError

IMBALANCE = 100
_MAX_FILE_BYTES = 1 << 30  # the largest real one has 155 MB
_STATS = {
    "cifar10-lt": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100-lt": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
# name -> folder, train files, test files, the labels' key, the file and key of the class names
_FILES: dict[str, tuple[str, tuple[str, ...], str, bytes, str, bytes]] = {
    "cifar10-lt": (
        "cifar-10-batches-py",
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch",
        b"labels",
        "batches.meta",
        b"label_names",
    ),
    "cifar100-lt": (
        "cifar-100-python",
        ("train",),
        "test",
        b"fine_labels",
        "meta",
        b"fine_label_names",
    ),
}


def index(source: Path | None, cfg: ConvertConfig, *, name: str) -> Index:
    """CIFAR, made long-tailed. Raises `UserError` if it is not there or not what it should be."""
    root = folder.need_folder(name, source)
    below, train_files, *_ = _FILES[name]
    home = next((d for d in (root / below, root) if (d / train_files[0]).is_file()), None)
    if home is not None:
        splits, class_names = _from_python_files(home, name)
    elif (root / "train").is_dir():
        splits, class_names, _ = folder.read_splits(root, cfg.encoding)
    else:
        raise UserError(
            f"{root} holds neither {below}/{train_files[0]} nor train/<class>/: unpack the data "
            "set's python version there, or name its folder with --source"
        )
    imbalance = IMBALANCE if cfg.imbalance is None else cfg.imbalance
    n_max = int(np.bincount(splits["train"].labels_N).max())
    splits["train"] = make_long_tailed(
        splits["train"], n_max=n_max, imbalance=imbalance, class_names=class_names, seed=cfg.seed
    )
    made = f"train: {n_max} images of class 0, imbalance factor {imbalance:g}, seed {cfg.seed}"
    return Index(name, class_names, splits, *_STATS[name], (made,))


def _from_python_files(home: Path, name: str) -> tuple[dict[str, SplitIndex], tuple[str, ...]]:
    _, train_files, test_file, label_key, names_file, names_key = _FILES[name]
    class_names = tuple(
        _text(n) for n in _take(_load(home / names_file), names_key, home / names_file)
    )
    splits = {}
    for split, files in (("train", train_files), ("test", (test_file,))):
        pixels, labels = [], []
        for path in (home / file for file in files):
            content = _load(path)
            data = _take(content, b"data", path)
            data = data.pixels if isinstance(data, _Array) else None
            label = np.asarray(_take(content, label_key, path), np.int64)
            if (
                data is None
                or data.shape != (len(label), 3072)
                or (len(label) and not 0 <= label.min() <= label.max() < len(class_names))
            ):
                raise UserError(f"{path}: not CIFAR's content (uint8 [N, 3072] and N labels)")
            pixels.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels.append(label)
        images = ArrayImages(np.ascontiguousarray(np.concatenate(pixels)), f"{name} {split}")
        splits[split] = SplitIndex(images, np.concatenate(labels))
    return splits, class_names


class _Dtype:
    """Stands for `numpy.dtype` while a file is read: only unsigned bytes are admitted."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in ("u1", b"u1", "uint8", b"uint8"):
            raise pickle.UnpicklingError(f"an array of {code!r}, not of bytes")

    def __setstate__(self, state: object) -> None:
        """Byte order and the like: bytes have none."""


class _Array:
    """Stands for a numpy array while a file is read: no state of numpy's own is set by it."""

    def __init__(self, *_: object) -> None:
        self.pixels = np.zeros((0, 0), np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise pickle.UnpicklingError("an array of something else than bytes")
        order = "F" if fortran else "C"
        self.pixels = np.frombuffer(raw, np.uint8).reshape(shape, order=order)


class _OnlyArrays(pickle.Unpickler):
    """Admits the names by which numpy, from version 1.0 to today, pickles a plain array."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        home = {"numpy.core.multiarray": "numpy", "numpy._core.multiarray": "numpy"}
        stand_in = {
            ("numpy", "_reconstruct"): _Array,
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): _latin1,  # how Python 3 pickles bytes for protocol 2
        }.get((home.get(module_name, module_name), global_name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return stand_in


def _latin1(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it encodes by {encoding!r}")
    return text.encode("latin1")


def _load(path: Path) -> dict[Any, Any]:
    """A pickled dict of CIFAR's. Raises `UserError` for anything else."""
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise UserError(f"{path}: {size} bytes are too many for a file of CIFAR's")
        content = _OnlyArrays(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: unpack the data set again") from None
    except UserError:
        raise
    # A hostile pickle can fail in as many ways as there are operations in it.
    except Exception as error:  # noqa: BLE001
        raise UserError(
            f"{path}: not one of CIFAR's files: {error}; nothing of it was run"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not one of CIFAR's files: it holds no dict")
    return content


def _take(content: dict[Any, Any], key: bytes, path: Path) -> Any:
    """Python 2 wrote byte keys; files that were written again by Python 3 have text."""
    for form in (key, key.decode()):
        if form in content:
            return content[form]
    raise UserError(f"{path}: not one of CIFAR's files: {key.decode()!r} is missing")


def _text(name: bytes | str) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
