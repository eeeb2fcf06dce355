"""The manifest of a conversion: what goes into which part, in what order. Everything that is made
later is made of it alone, by any process, in any order, at any time.

`manifest.json` says what the data set is and names the parts; beside it lies of each part a
`Piece`, its images before they are read. A piece is a pickle, since a data set's images may be of
any class: it is opened only if it has the digest that the manifest has of it.
"""

import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from fasttail import __version__, atomic
from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, Facts, Images, Index, SplitIndex, expecting
from fasttail.datasets.namelist import Names
from fasttail.datasets.spool import forget
from fasttail.errors import UserError
from fasttail.shards import format, parts
from fasttail.shards.columns import digest
from fasttail.shards.containers import Container, container
from fasttail.shards.image import Rule
from fasttail.shards.workdir import WorkDir

FORMAT = "fasttail-manifest"
MEASURED_IMAGES = 2048  # of train, where mean and std have to be measured


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ManifestPart(_Strict):
    """A part: images `start`.. of its split. `key` changes when it would come out differently,
    `digest` is its piece's."""

    split: str
    number: int
    start: int
    images: int
    key: str
    digest: str = ""

    @property
    def name(self) -> str:
        return format.part_name(self.split, self.number, "")


class Manifest(_Strict):
    """`manifest.json`. `key` changes when the shards would come out differently. `origin`: what was
    listed, for people."""

    format: Literal["fasttail-manifest"] = FORMAT
    version: Literal[1] = 1
    written_by: str = f"fasttail {__version__}"
    origin: str
    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    notes: tuple[str, ...]
    config: dict[str, Any]
    key: str
    parts: tuple[ManifestPart, ...]

    @property
    def cfg(self) -> ConvertConfig:
        return ConvertConfig.model_validate(self.config)

    @property
    def images(self) -> int:
        return sum(part.images for part in self.parts)


@dataclass(frozen=True)
class Piece:
    """The K images of a part before they are read, their labels, what is known of them, and which
    of them mean and std are measured on."""

    images: Images
    labels_K: np.ndarray
    facts: Facts
    measured_K: np.ndarray

    @property
    def names(self) -> Names:
        return names_of(self.images)


def names_of(images: Images) -> Names:
    """What a person knows the images by."""
    paths = getattr(images, "paths", None)
    if isinstance(paths, Names):
        return paths
    return Names.of(images.name(i) for i in range(len(images)))


def rule_from(cfg: ConvertConfig) -> Rule:
    """What the configuration asks of every image."""
    return Rule(
        check=cfg.check,
        seek_spacing=cfg.seek_spacing if cfg.check == "decode" else 0,
        exif=cfg.exif,
        progressive=cfg.progressive,
        max_side=cfg.max_side,
        jpeg_quality=cfg.jpeg_quality,
        raw_below_px=cfg.raw_below_px,
        max_pixels=cfg.max_pixels,
    )


def write(index: Index, work: WorkDir, cfg: ConvertConfig, origin: str = "") -> Manifest:
    """Divides `index` into parts and writes down what goes into each.

    Where the shards are there already, nothing is written. Raises `UserError` if others are.
    """
    found = []
    for name, split in index.splits.items():
        for part, piece in _divided(name, split, index, cfg):
            data = b""
            if not work.is_finished:
                data = pickle.dumps(piece, protocol=pickle.HIGHEST_PROTOCOL)
                with atomic.whole_file(work.piece(part.name)) as file:
                    file.write(data)
            found.append(part.model_copy(update={"digest": sha256(data).hexdigest()}))
    about = [index.name, index.class_names, index.mean, index.std]
    manifest = Manifest(
        origin=origin,
        name=index.name,
        class_names=index.class_names,
        mean=index.mean,
        std=index.std,
        notes=index.notes,
        config=cfg.model_dump(mode="json"),
        key=digest(*(part.key for part in found), cfg.on_bad, json.dumps(about)),
        parts=tuple(found),
    )
    if not work.is_finished:
        with atomic.whole_file(work.manifest) as file:
            file.write(manifest.model_dump_json(indent=1).encode() + b"\n")
    elif format.read_meta(work.out).made.get("key") != manifest.key:
        work.remove()
        raise UserError(
            f"{work.out} holds shards already, of other images or settings: choose another --out, "
            "or remove it"
        )
    return manifest


def _divided(
    name: str, split: SplitIndex, index: Index, cfg: ConvertConfig
) -> Iterator[tuple[ManifestPart, Piece]]:
    """The parts of a split, in their order."""
    images, labels_N = split.images, split.labels_N
    facts = split.facts or images.facts()
    step = max(1, -(-len(labels_N) // MEASURED_IMAGES))
    measured = name == "train" and index.mean is None
    form, rule = container(cfg.format), rule_from(cfg)
    # These decide about every image, so that none is expected to go in as it is.
    undecided = cfg.max_side is not None or cfg.exif == "apply"
    for number, (a, b) in enumerate(parts.divide(facts.bytes_N, cfg.part_size)):
        ids_K = np.arange(a, b)
        facts_K = facts.cut(a, b)
        if undecided:
            facts_K = Facts(facts_K.bytes_N, np.zeros(b - a, bool), facts_K.stamp_N)
        piece = Piece(
            expecting(images.pick(ids_K), facts_K),
            np.array(labels_N[a:b]),
            facts_K,
            (ids_K % step == 0) & measured,
        )
        key = _key(piece, (a, b), form, rule)
        yield ManifestPart(split=name, number=number, start=a, images=b - a, key=key), piece
        forget(labels_N, facts.bytes_N, facts.plain_N, facts.stamp_N)
        if isinstance(paths := getattr(images, "paths", None), Names):
            paths.forget()


def _key(piece: Piece, bounds: tuple[int, int], form: Container, rule: Rule) -> str:
    """Changes when a part would come out differently."""
    names = piece.names
    return digest(
        json.dumps([format.VERSION, form.suffix, asdict(rule), bounds]),
        np.ascontiguousarray(names.text),
        np.diff(names.starts),
        piece.facts.bytes_N,
        piece.facts.stamp_N,
        np.ascontiguousarray(piece.labels_K),
        piece.measured_K,
    )


def read(work: WorkDir) -> Manifest:
    """The manifest in a folder. Raises `UserError` if there is none, or none of this version."""
    try:
        return Manifest.model_validate_json(work.manifest.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{work.out} has no manifest: fasttail convert --plan lists the source and writes it"
        ) from None
    except (OSError, ValidationError):
        raise UserError(
            f"{work.manifest}: no manifest of this version of fasttail: fasttail convert --plan "
            "writes it again"
        ) from None


def read_as(work: WorkDir, key: str) -> Manifest:
    """The manifest with this key. Raises `UserError` if the folder has none, or another."""
    found = read(work)
    if found.key != key:
        raise UserError(f"{work.manifest} is another one here: do all nodes see the same folder?")
    return found


def read_piece(work: WorkDir, part: ManifestPart) -> Piece:
    """A part's images. Raises `UserError` if the piece is not the manifest's."""
    path = work.piece(part.name)
    data = path.read_bytes() if path.exists() else b""
    if sha256(data).hexdigest() != part.digest:
        raise UserError(
            f"{path} is {'of another manifest' if data else 'missing'}: fasttail convert --plan "
            "writes it again"
        )
    return pickle.loads(data)  # noqa: S301 - it is what the manifest's writer wrote


def pixels(piece: Piece) -> bool:
    """Whether all images are stored as pixels."""
    return isinstance(piece.images, ArrayImages)


def jobs_for(cfg: ConvertConfig) -> int:
    """Worker processes on this machine."""
    return cfg.jobs or len(os.sched_getaffinity(0))
