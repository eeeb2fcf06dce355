"""From images to shards: convert, verify, index, cache, inspect."""

from pathlib import Path

import typer

commands = typer.Typer()


@commands.command(
    epilog="Examples: fasttail convert --dataset digits;  "
    "fasttail convert --dataset inat2018 --source /data/inat --max-side 512;  "
    "fasttail convert --dataset folder --source photos --raw-budget 10%;  "
    "python -m fasttail.torchrun --nproc-per-node 8 convert --dataset imagenet-lt;  "
    "fasttail convert --plan --dataset imagenet-lt, then --task 0, --task 1, ... and --merge"
)
def convert(
    dataset: str | None = typer.Option(
        None,
        help="digits, folder, cifar10-lt, cifar100-lt, imagenet-lt, places-lt, inat2018, list, "
        "csv, parquet or webdataset.",
    ),
    source: Path | None = typer.Option(
        None, help="The folder (or file) that the images are in. [default: data/NAME]"
    ),
    out: Path | None = typer.Option(None, help="Where the shards go. [default: shards/NAME]"),
    imbalance: float | None = typer.Option(
        None, help="Largest class : smallest, for digits and CIFAR-LT. [default: 50, 100]"
    ),
    val_fraction: float | None = typer.Option(
        None, help="Share of train held out where there is no val. [default: 0.1; CIFAR-LT 0]"
    ),
    test_fraction: float | None = typer.Option(
        None, help="Share of train held out where there is no test. [default: 0]"
    ),
    group_by: str | None = typer.Option(
        None,
        help="Regular expression that finds an image's group in its path: images of one group "
        "(a video, a patient, a camera) go to one split.",
    ),
    group_column: str | None = typer.Option(
        None, help="csv, parquet: the column that names an image's group."
    ),
    seed: int | None = typer.Option(None, help="Of every random choice. [default: 0]"),
    lists: Path | None = typer.Option(
        None, help="Folder of list files (path label), or one. [default: beside the images]"
    ),
    columns: tuple[str, str] | None = typer.Option(
        None, help="csv, parquet: the columns of paths and labels. [default: path label]"
    ),
    label_key: str | None = typer.Option(
        None, help="webdataset: the label's key in the .json member. [default: the .cls member]"
    ),
    encoding: str | None = typer.Option(
        None, help="Of lists, tables and folders' names: cp1252, latin-1, ... [default: UTF-8]"
    ),
    allow_partial: bool = typer.Option(
        False, "--allow-partial", help="Go on where a published data set has another size."
    ),
    max_side: int | None = typer.Option(
        None, help="Shrink images whose longer side is above this, in pixels. [default: never]"
    ),
    exif: str | None = typer.Option(
        None, help="EXIF orientation: ignore, as the published pipelines do, or apply."
    ),
    progressive: str | None = typer.Option(
        None,
        help="Progressive JPEGs: baseline, the same pixels and faster to decode, or keep, byte for "
        "byte. [default: baseline]",
    ),
    raw_budget: str | None = typer.Option(
        None,
        help="Keep images of the smallest classes decoded, in a cache beside the shards: 4GiB, or "
        "10% of the images.",
    ),
    seek_spacing: int | None = typer.Option(
        None,
        help="Bytes of a JPEG from one point of its seek index to the next; 0: no index. "
        "[default: 576]",
    ),
    check: str | None = typer.Option(
        None, help="decode: decode every image once; header: read headers. [default: decode]"
    ),
    on_bad: str | None = typer.Option(
        None, help="fail: stop at the end with the list; skip: leave them out. [default: fail]"
    ),
    format: str | None = typer.Option(None, help="beton or tar. [default: beton]"),
    part_size: str | None = typer.Option(
        None, help="Bytes of images from which on a split gets another file. [default: 32GiB]"
    ),
    jobs: int | None = typer.Option(None, help="Worker processes. [default: the usable cores]"),
    on: str = typer.Option(
        "local", help="Who makes the parts: local, ray, or ray://HOST:PORT for a cluster."
    ),
    plan: bool = typer.Option(
        False, "--plan", help="Only list the source and write down what goes into which part."
    ),
    task: str | None = typer.Option(
        None,
        help="Only make part I of the plan in --out; I/N makes every N-th from I on. By any "
        "scheduler, in any order.",
    ),
    merge: bool = typer.Option(
        False, "--merge", help="Only write the table in --out, of the parts that tasks have made."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object at the end, for scripts."),
) -> None:
    """Convert a data set to shards: a few big files and a table of where each image is."""
    from fasttail.shards import steps

    steps.run(
        dataset,
        source,
        out,
        {
            "imbalance": imbalance,
            "val_fraction": val_fraction,
            "test_fraction": test_fraction,
            "group_by": group_by,
            "group_column": group_column,
            "seed": seed,
            "lists": lists,
            "columns": columns,
            "label_key": label_key,
            "encoding": encoding,
            "allow_partial": allow_partial,
            "max_side": max_side,
            "exif": exif,
            "progressive": progressive,
            "raw_budget": raw_budget,
            "seek_spacing": seek_spacing,
            "check": check,
            "on_bad": on_bad,
            "format": format,
            "part_size": part_size,
            "jobs": jobs,
        },
        on=on,
        plan=plan,
        task=task,
        merge=merge,
        as_json=as_json,
    )


@commands.command(epilog="Example: fasttail verify shards/inat2018")
def verify(
    shards: str = typer.Argument(..., help="The directory or URL of the shards."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object, for scripts."),
) -> None:
    """Read every sample again: its crc32, its place, the tables. Exit code 1 if there is damage."""
    from fasttail.shards import command
    from fasttail.stores import folder_or_url

    command.run_verify(folder_or_url(shards), as_json=as_json)


@commands.command(
    epilog="Examples: fasttail index data/*.tar --label-key label;  "
    "fasttail index --seek shards/places-lt"
)
def index(
    tars: list[Path] = typer.Argument(
        ...,
        metavar="TARS",
        help="Tars of WebDataset samples; train-*, val-*, test-* by their names. With --seek: "
        "directories of shards.",
    ),
    seek: bool = typer.Option(
        False, "--seek", help="Make the seek index of shards that exist, and change nothing else."
    ),
    seek_spacing: int | None = typer.Option(
        None,
        help="Bytes of a JPEG from one point of its seek index to the next; 0: no index. "
        "[default: 576]",
    ),
    out: Path | None = typer.Option(
        None, help="Where the table goes. [default: shards/NAME, by the folder of the tars]"
    ),
    label_key: str | None = typer.Option(
        None, help="The label's key in the .json member. [default: the .cls member]"
    ),
    check: str | None = typer.Option(
        None, help="decode: decode every image once; header: read headers. [default: decode]"
    ),
    on_bad: str | None = typer.Option(
        None, help="fail: stop at the end with the list; skip: leave them out. [default: fail]"
    ),
    jobs: int | None = typer.Option(None, help="Worker processes. [default: the usable cores]"),
    as_json: bool = typer.Option(False, "--json", help="One JSON object at the end, for scripts."),
) -> None:
    """Make the class-index table over tar shards that exist, or the seek index of any shards;
    nothing is copied."""
    from fasttail.shards import command

    if seek:
        command.run_seek(tars, seek_spacing, as_json=as_json)
        return
    options = {"label_key": label_key, "check": check, "on_bad": on_bad, "jobs": jobs}
    command.run_index(tars, out, {**options, "seek_spacing": seek_spacing}, as_json=as_json)


@commands.command(
    epilog="Examples: fasttail cache shards/places-lt --budget 4GiB;  "
    "fasttail cache shards/places-lt --remove"
)
def cache(
    shards: Path = typer.Argument(..., help="The directory of the shards."),
    budget: str | None = typer.Option(
        None, help="How much to keep: 4GiB of decoded images, or 10% of the images."
    ),
    remove: bool = typer.Option(False, "--remove", help="Remove what is kept."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object at the end, for scripts."),
) -> None:
    """Keep images of train's smallest classes decoded, beside the shards: the ones that are drawn
    most often."""
    from fasttail.shards import command

    command.run_cache(shards, budget, drop=remove, as_json=as_json)


@commands.command(
    epilog="Examples: fasttail inspect shards/places-lt;  "
    "fasttail inspect shards/mine --html mine.html"
)
def inspect(
    shards: str = typer.Argument(..., help="The directory or URL of the shards."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object, for scripts."),
    html: Path | None = typer.Option(None, help="Write a page with figures and pictures too."),
) -> None:
    """Say what is in shards: classes, sizes, copies, what raw images cover, an epoch's time."""
    from fasttail.report import inspect
    from fasttail.stores import folder_or_url

    inspect.show(folder_or_url(shards), as_json=as_json, html=html)
