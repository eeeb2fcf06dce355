"""What `verify`, `index` and `cache` do around the work, and what `convert` shares with them:
places, progress, words."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from fasttail.config import ConvertConfig
from fasttail.console import Reporter, complaints, remarks
from fasttail.errors import UserError, printable, stoppable
from fasttail.progress import progress
from fasttail.shards import tail
from fasttail.shards.columns import JPG
from fasttail.shards.image import BASELINE, IGNORED
from fasttail.shards.reader import Shards
from fasttail.shards.reader import open as open_shards
from fasttail.shards.seek import add_seek
from fasttail.shards.tarindex import index_tars
from fasttail.shards.verify import verify
from fasttail.world import World

GO_ON = "finished shards are kept, and the same command resumes after them"


def data_root() -> Path:
    """Where data sets are looked for unless a command is told otherwise."""
    return Path(os.environ.get("FASTTAIL_DATA", "data"))


def shards_root() -> Path:
    """Where shards are kept unless a command is told otherwise."""
    return Path(os.environ.get("FASTTAIL_SHARDS", "shards"))


def run_index(
    tars: list[Path], out: Path | None, options: dict[str, Any], *, as_json: bool = False
) -> None:
    """`fasttail index`: `options` as for `run_convert`."""
    cfg = config_from(options)
    console = remarks()
    out = out or shards_root() / tars[0].resolve().parent.name
    with stopped_politely(), bar(console) as show:
        shards = index_tars(tars, out, cfg, show)
    say_shards(console, shards)
    if as_json:
        say_json(shards)


def run_seek(folders: list[Path], spacing: int | None, *, as_json: bool = False) -> None:
    """`fasttail index --seek`: for shards that exist."""
    cfg = config_from({"seek_spacing": spacing})
    console = remarks()
    for folder in folders:
        with stopped_politely(), bar(console) as show:
            shards = add_seek(folder, cfg.seek_spacing, show)
        _say_beside(console, shards)
        if as_json:
            say_json(shards)


def run_cache(folder: Path, budget: str | None, *, drop: bool, as_json: bool = False) -> None:
    """`fasttail cache`: makes the cache, or removes it."""
    if drop == (budget is not None):
        raise UserError("fasttail cache takes --budget, say 4GiB or 10%, or --remove")
    console = remarks()
    if drop:
        removed = tail.remove(open_shards(folder).dir)
        console.print(f"{folder}: {'its cache is removed' if removed else 'it has no cache'}")
        return
    wanted = config_from({"raw_budget": budget}, {"raw_budget": "--budget"}).raw_budget
    assert wanted is not None
    with stopped_politely(), bar(console) as show:
        tail.keep(folder, wanted, show)
    shards = open_shards(folder)
    _say_beside(console, shards)
    if as_json:
        say_json(shards)


def run_verify(folder: Path | str, *, as_json: bool = False) -> None:
    """`fasttail verify`: prints what is wrong and exits with 1, or says that all is well."""
    console = remarks()
    with bar(console) as show:
        found = verify(folder, show)
    if as_json:
        Reporter().json({"shards": str(folder), "whole": not found.problems, **asdict(found)})
    if found.problems:
        if not as_json:
            for problem in found.problems:
                print(printable(problem))
        complaints().print(f"{folder} is damaged: {len(found.problems)} findings", markup=False)
        raise SystemExit(1)
    console.print(
        f"{folder} is intact: {found.samples:,} samples, {found.bytes / 1e6:,.1f} MB read",
        markup=False,
    )


def config_from(
    options: dict[str, Any], flags: Mapping[str, str] = MappingProxyType({})
) -> ConvertConfig:
    """The configuration with these values, None meaning the default.

    Raises `UserError`, which names the option: by `flags`, where it is not called as the value.
    """
    try:
        return ConvertConfig(**{k: v for k, v in options.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        option = flags.get(name, "--" + name.replace("_", "-"))
        raise UserError(f"{option} {first['input']!r}: {first['msg']}") from None


@contextmanager
def stopped_politely() -> Iterator[None]:
    """Ctrl-C, and a scheduler's SIGTERM, end with a line that says what becomes of the work."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with stoppable(lambda: GO_ON):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def bar(console: Console) -> Iterator[Callable[[str, int, int], None] | None]:
    if not World.from_env().is_main:
        yield None
        return
    with progress(console, "", None, "images") as shown:
        yield shown.show


def say_shards(console: Console, shards: Shards) -> None:
    def say(line: str) -> None:
        console.print(line, markup=False)

    for name, split in shards.meta.splits.items():
        parts = f" in {len(split.parts)} shards" if len(split.parts) > 1 else ""
        size = sum(part.bytes for part in split.parts)
        say(f"  {name}: {split.samples:,} images, {size / 1e6:,.1f} MB{parts}")
    for note in shards.meta.notes:
        say(f"  {note}")
    for split, kinds in shards.meta.kinds.items():
        if n := sum(count for kind, count in kinds.items() if kind.startswith(BASELINE)):
            say(f"  {split}: {n:,} progressive JPEGs stored as baseline, the same pixels")
        if n := sum(count for kind, count in kinds.items() if kind.endswith(IGNORED)):
            say(
                f"  {split}: {n:,} images are stored unturned though their EXIF says to turn them: "
                "--exif apply turns them"
            )
    for split, n in shards.meta.rejected.items():
        say(f"  {split}: {n} bad images left out, listed in {shards.dir}/rejected.csv")
    _say_beside(console, shards)
    say(f"{shards.dir} is ready: fasttail train --stage rep --shards {shards.dir}")


def _say_beside(console: Console, shards: Shards) -> None:
    """What lies beside the samples: the seek index, the cache."""
    train = shards.split(tail.SPLIT)
    cache, lines = train.cache, []
    if train.seek is not None:
        share = train.seek[0].nbytes / int(train.sizes_N[train.modes_N == JPG].sum())
        lines.append(f"seek index: {share:.1%} of the JPEGs' bytes")
    elif (train.modes_N == JPG).any():
        lines.append(f"no seek index: fasttail index --seek {shards.dir} makes it")
    if cache is not None:
        share_of_draws = {
            name: tail.share_of_draws(train.labels_N, cache.ids_K, q)
            for name, q in (("class-balanced", 0.0), ("square-root", 0.5))
        }
        draws = " and ".join(f"{share:.0%} of {name}" for name, share in share_of_draws.items())
        size = f"{cache.meta.bytes / 1e6:,.1f} MB"
        lines.append(f"kept decoded: {cache.meta.images:,} images, {size}: {draws} draws")
    for line in lines:
        console.print(f"  {line}", markup=False)


def say_json(shards: Shards) -> None:
    Reporter().json(
        {
            "shards": str(shards.dir),
            "digest": shards.digest,
            "classes": len(shards.class_names),
            "splits": {
                name: {
                    "images": split.samples,
                    "bytes": sum(part.bytes for part in split.parts),
                    "parts": len(split.parts),
                }
                for name, split in shards.meta.splits.items()
            },
            "rejected": dict(shards.meta.rejected),
            "notes": list(shards.meta.notes),
        }
    )
