"""The end of a conversion: the tables of all parts' own rows, streamed, then dataset.json."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fasttail import __version__, atomic
from fasttail.config import ConvertConfig
from fasttail.datasets.spool import BLOCK
from fasttail.errors import UserError, printable
from fasttail.shards import rows, table, task
from fasttail.shards.columns import COLUMNS, SEEK, digest
from fasttail.shards.format import (
    DAMAGED_FILE,
    FORMAT,
    META_FILE,
    REJECTED_FILE,
    VERSION,
    Meta,
    PartMeta,
    SeekMeta,
    SplitMeta,
)
from fasttail.shards.manifest import Manifest, ManifestPart
from fasttail.shards.rows import About
from fasttail.shards.workdir import WorkDir

_SHOWN = 10
Three = tuple[float, float, float]
Known = list[tuple[ManifestPart, About]]  # parts in their order, and what is known of each


def merge(work: WorkDir, manifest: Manifest) -> None:
    """Writes every split's table, then dataset.json, and removes `.convert/`.

    Raises `UserError` if a part is missing, images are bad and `on_bad` is "fail", or a class of
    train has none left.
    """
    try:
        _merge(work, manifest, _all_there(work, manifest))
    except OSError as error:
        raise atomic.explain(error, work.out) from error


def _all_there(work: WorkDir, manifest: Manifest) -> Known:
    known: Known = []
    missing: list[int] = []
    for number, part in enumerate(manifest.parts):
        about = task.finished(work, part) or _failed(work, manifest, part)
        if about is None:
            missing.append(number)
        else:
            known.append((part, about))
    if missing:
        part = manifest.parts[missing[0]]
        about = rows.read_about(work.rows(part.name))
        what = "missing" if about is None or about.key == part.key else "of another manifest"
        more = f" (and {len(missing) - 1} more are not there)" if len(missing) > 1 else ""
        raise UserError(
            f"{work.out}: part {missing[0]}, {part.name}, is {what}{more}: make it with "
            f"fasttail convert --task {missing[0]} --out {work.out}"
        )
    return known


def _failed(work: WorkDir, manifest: Manifest, part: ManifestPart) -> About | None:
    """What is known of a part that was not written since images in it are bad."""
    about = rows.read_about(work.rows(part.name))
    if about is None or about.key != part.key or manifest.cfg.on_bad != "fail":
        return None
    return about if about.rejected else None


def _merge(work: WorkDir, manifest: Manifest, known: Known) -> None:
    cfg = manifest.cfg
    rejected = _report_bad(work, manifest, known)
    splits: dict[str, SplitMeta] = {}
    contents: list[str] = []
    for split in dict.fromkeys(part.split for part in manifest.parts):
        kept = [(part, about) for part, about in known if part.split == split and about.samples]
        if split == "train":
            _refuse_lost_classes(work, manifest, kept)
        if not kept:
            continue
        lengths = _lengths([about for _, about in kept])
        digests, content = table.write(
            work.out / f"{split}.index", _pieces(work, kept), lengths, len(manifest.class_names)
        )
        splits[split] = SplitMeta(
            samples=lengths["labels"],
            parts=tuple(
                PartMeta(
                    file=about.file, bytes=about.bytes, samples=about.samples, digest=about.digest
                )
                for _, about in kept
            ),
            columns=digests,
            seek=SeekMeta(spacing=cfg.seek_spacing) if "seek" in lengths else None,
        )
        contents += [split, content]
    mean, std = _mean_std(manifest, [about for part, about in known if part.split == "train"])
    meta = Meta(
        format=FORMAT,
        version=VERSION,
        written_by=f"fasttail {__version__}",
        container=cfg.format,
        name=manifest.name,
        class_names=manifest.class_names,
        mean=mean,
        std=std,
        splits=splits,
        digest=digest(*manifest.class_names, *contents),
        made={"key": manifest.key, **_settings(cfg)},
        notes=manifest.notes,
        rejected=rejected,
        kinds=_sum_kinds(known),
    )
    with atomic.whole_file(work.out / META_FILE) as file:
        file.write(meta.model_dump_json(indent=1).encode() + b"\n")
    work.remove()


def _lengths(kept: Sequence[About]) -> dict[str, int]:
    """How many values each column of a split has."""
    samples = sum(about.samples for about in kept)
    lengths = {name: samples for name in COLUMNS if name not in table.GROUPS}
    lengths["names"] = sum(about.name_bytes for about in kept)
    lengths["name_starts"] = samples + 1
    if words := sum(about.seek_words for about in kept):
        lengths |= {"seek": words, "seek_starts": samples + 1}
    return lengths


def _pieces(work: WorkDir, kept: Known) -> Iterator[Mapping[str, np.ndarray]]:
    """The columns of a split, part by part."""
    nothing = {name: np.empty(0, dtype) for name, dtype in {**COLUMNS, **SEEK}.items()}
    zero = np.zeros(1, np.int64)
    yield {**nothing, "name_starts": zero, "seek_starts": zero}
    name_end = seek_end = 0
    for number, (part, about) in enumerate(kept):
        columns = rows.read_columns(work.rows(part.name))
        yield {
            **nothing,
            **columns,
            "parts": np.full(about.samples, number, np.int32),
            "name_starts": name_end + np.cumsum(columns["name_lengths"]),
            "seek_starts": seek_end + np.cumsum(columns["seek_lengths"]),
        }
        name_end += about.name_bytes
        seek_end += about.seek_words
        yield from ({**nothing, "seek": words} for words in _words(work.seek(part.name)))


def _words(path: Path) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        while len(words := np.fromfile(file, SEEK["seek"], BLOCK)):
            yield words


def _settings(cfg: ConvertConfig) -> dict[str, str | int | float | bool | None]:
    """What of the configuration shows in the result."""
    names = (
        *("seed", "imbalance", "val_fraction", "test_fraction", "group_by", "group_column"),
        *("max_side", "exif", "progressive", "check", "on_bad"),
        *("jpeg_quality", "raw_below_px", "max_pixels", "part_size"),
    )
    return {name: getattr(cfg, name) for name in names}


def _sum_kinds(known: Known) -> dict[str, dict[str, int]]:
    totals: dict[str, dict[str, int]] = {}
    for part, about in known:
        total = totals.setdefault(part.split, {})
        for kind, n in about.kinds.items():
            total[kind] = total.get(kind, 0) + n
    return {split: dict(sorted(total.items())) for split, total in totals.items()}


def _report_bad(work: WorkDir, manifest: Manifest, known: Known) -> dict[str, int]:
    """Writes rejected.csv and damaged.csv; returns how many of each split were rejected. Raises as
    `merge` says."""
    bad = [line for part, about in known for line in about.rejected]
    for what, file in (("rejected", REJECTED_FILE), ("damaged", DAMAGED_FILE)):
        lines = (
            (part.split, name, manifest.class_names[label], why)
            for part, about in known
            for name, label, why in getattr(about, what)
        )
        _write_list(work.out / file, lines)
    if bad and manifest.cfg.on_bad == "fail":
        shown = "".join(f"\n  {printable(name)}: {why}" for name, _, why in bad[:_SHOWN])
        more = f"\n  ... and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise UserError(
            f"{len(bad)} bad images, all listed in {work.out / REJECTED_FILE}:{shown}{more}\n"
            "Mend or remove them, or leave them out with --on-bad skip"
        )
    counts: dict[str, int] = {}
    for part, about in known:
        counts[part.split] = counts.get(part.split, 0) + len(about.rejected)
    return {split: n for split, n in counts.items() if n}


def _write_list(path: Path, lines: Iterator[tuple[str, str, str, str]]) -> None:
    path.unlink(missing_ok=True)
    first = next(lines, None)
    if first is None:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("split", "image", "class", "reason"), first])
    writer.writerows(lines)
    with atomic.whole_file(path) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def _refuse_lost_classes(work: WorkDir, manifest: Manifest, train: Known) -> None:
    names = manifest.class_names
    counts_C = np.zeros(len(names), np.int64)
    for part, _ in train:
        labels = rows.read_columns(work.rows(part.name), ["labels"])["labels"]
        counts_C += np.bincount(labels, minlength=len(names))
    lost = np.flatnonzero(counts_C == 0)
    if len(lost):
        raise UserError(
            f"every image of class {names[lost[0]]!r} in train is bad"
            + (f" (and of {len(lost) - 1} more classes)" if len(lost) > 1 else "")
            + f": see {REJECTED_FILE}, and repair them or remove the class"
        )


def _mean_std(manifest: Manifest, train: Sequence[About]) -> tuple[Three, Three]:
    if manifest.mean is not None and manifest.std is not None:
        return manifest.mean, manifest.std
    sums = np.array([about.sums for about in train], object).sum(axis=0)
    pixels = sums[0] * 255
    mean = [sums[1 + c] / pixels for c in range(3)]
    std = [max(sums[4 + c] / (pixels * 255) - mean[c] ** 2, 1e-8) ** 0.5 for c in range(3)]
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
