"""What is known of the published long-tailed data sets: sizes, layouts, means."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fasttail.config import ConvertConfig
from fasttail.datasets import paths
from fasttail.datasets.base import Index
from fasttail.datasets.paths import Layout
from fasttail.errors import UserError


@dataclass(frozen=True)
class Stats:
    """Mean and standard deviation of a channel, of pixels scaled to 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Known:
    """`images`: of each split. `largest` and `smallest`: images of a class of train. `word`: in the
    names of its list files."""

    word: str
    classes: int
    images: Mapping[str, int]
    largest: int
    smallest: int
    stats: Stats
    layouts: tuple[Layout, ...]


def _by_letter(path: str) -> str:
    """`train/airfield/1.jpg` -> `data_256/a/airfield/1.jpg`: Places365 as its archive unpacks,
    where a class within a class is a folder within a folder."""
    name, file = path.split("/")[-2:]
    return f"data_256/{name[0]}/{name.replace('-', '/')}/{file}"


def _val_256(path: str) -> str:
    """`val/airfield/Places365_val_1.jpg` -> `val_256/Places365_val_1.jpg`: Places365's val as its
    archive unpacks, not sorted into classes."""
    return f"val_256/{path.rsplit('/', 1)[-1]}"


_IMAGENET = Stats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# Sources: Liu et al. 2019 for ImageNet-LT and Places-LT; the iNaturalist 2018 competition.
KNOWN = {
    "imagenet-lt": Known(
        word="imagenet",
        classes=1000,
        images={"train": 115_846, "val": 20_000, "test": 50_000},
        largest=1280,
        smallest=5,
        stats=_IMAGENET,
        layouts=(
            paths.as_listed,
            paths.without_class,
            paths.under("ILSVRC/Data/CLS-LOC"),
            paths.under("ILSVRC/Data/CLS-LOC", paths.without_class),
        ),
    ),
    "places-lt": Known(
        word="places",
        classes=365,
        images={"train": 62_500, "val": 7_300, "test": 36_500},
        largest=4980,
        smallest=5,
        stats=_IMAGENET,
        layouts=(
            paths.as_listed,
            paths.under("data_256", paths.without_first),
            paths.under("train", paths.without_first),
            paths.without_first,
            _by_letter,
            _val_256,
        ),
    ),
    "inat2018": Known(
        word="inat",
        classes=8142,
        images={"train": 437_513, "val": 24_426},
        largest=1000,
        smallest=2,
        stats=Stats((0.466, 0.471, 0.380), (0.195, 0.194, 0.192)),
        layouts=(paths.as_listed, paths.without_first),
    ),
}


def check(index: Index, name: str, cfg: ConvertConfig) -> Index:
    """Compares with the published sizes. Another size is a `UserError`, or with `allow_partial` a
    note in the index."""
    known = KNOWN.get(name)
    if known is None:
        return index
    wrong = []
    if len(index.class_names) != known.classes:
        wrong.append(f"{len(index.class_names):,} classes, published {known.classes:,}")
    for split, count in known.images.items():
        if split in index.splits and len(index.splits[split].labels_N) != count:
            here = len(index.splits[split].labels_N)
            wrong.append(f"{split} has {here:,} images, published {count:,}")
    counts_C = index.counts("train")
    if (counts_C.max(), counts_C.min()) != (known.largest, known.smallest):
        wrong.append(
            f"train has {counts_C.max()} to {counts_C.min()} images a class, published "
            f"{known.largest} to {known.smallest}"
        )
    if not wrong:
        return index
    text = f"{name} is not the published data set: {'; '.join(wrong)}"
    if not cfg.allow_partial:
        raise UserError(
            f"{text}: results will not be comparable; to convert it anyway: --allow-partial"
        )
    return replace(index, notes=(*index.notes, f"WARNING: {text}"))
