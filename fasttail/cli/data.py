"""From images to a converted data set: convert, verify, index, cache, inspect."""

from pathlib import Path

import typer

from fasttail.cli.common import AS_JSON, examples

commands = typer.Typer()

SPLITS, LABELS = "Splits and classes", "Labels"
IMAGES, FILES = "Images", "Files and speed"
STEPS = "On a cluster"
DATASET_DIR = "Directory of the converted data set."
DATASET_URL = "Directory or URL (s3://...) of the converted data set."


@commands.command(
    epilog=examples(
        "fasttail convert --dataset digits",
        "fasttail convert --dataset inat2018 --source /data/inat --max-side 512",
        "fasttail convert --dataset folder --source photos --raw-budget 10%",
        "python -m fasttail.torchrun --nproc-per-node 8 convert --dataset imagenet-lt",
        "fasttail convert --plan --dataset imagenet-lt",
    )
)
def convert(
    dataset: str | None = typer.Option(
        None,
        help="digits, cifar10-lt, cifar100-lt, imagenet-lt, places-lt, inat2018; or your own: "
        "folder, list, csv, parquet, webdataset.",
        show_default="the plan's",
    ),
    source: Path | None = typer.Option(
        None, help="Folder or file with the images.", show_default="data/NAME"
    ),
    out: Path | None = typer.Option(None, help="Output directory.", show_default="shards/NAME"),
    jobs: int | None = typer.Option(
        None, help="Worker processes.", show_default="all usable cores"
    ),
    as_json: bool = AS_JSON,
    val_fraction: float | None = typer.Option(
        None,
        help="Fraction of train held out for validation, if there is no validation set.",
        show_default="0.1; 0 for CIFAR-LT",
        rich_help_panel=SPLITS,
    ),
    test_fraction: float | None = typer.Option(
        None,
        help="Fraction of train held out for testing, if there is no test set.",
        show_default="0",
        rich_help_panel=SPLITS,
    ),
    group_by: str | None = typer.Option(
        None,
        help="Regular expression for the group in an image's path. Images of one group (a video, a "
        "patient, a camera) stay in one split.",
        show_default="no groups",
        rich_help_panel=SPLITS,
    ),
    group_column: str | None = typer.Option(
        None,
        help="csv, parquet: the column with the group.",
        show_default="no groups",
        rich_help_panel=SPLITS,
    ),
    imbalance: float | None = typer.Option(
        None,
        help="digits, CIFAR-LT: imbalance factor, images of the largest class per image of the "
        "smallest.",
        show_default="50; 100 for CIFAR-LT",
        rich_help_panel=SPLITS,
    ),
    seed: int | None = typer.Option(
        None, help="Random seed of the splits.", show_default="0", rich_help_panel=SPLITS
    ),
    allow_partial: bool = typer.Option(
        False,
        "--allow-partial",
        help="Accept a published data set with missing or additional images.",
        rich_help_panel=SPLITS,
    ),
    lists: Path | None = typer.Option(
        None,
        help="List files with a path and a label per line: a folder or one file.",
        show_default="next to the images",
        rich_help_panel=LABELS,
    ),
    columns: tuple[str, str] | None = typer.Option(
        None,
        help="csv, parquet: the columns with the path and the label.",
        show_default="path label",
        rich_help_panel=LABELS,
    ),
    label_key: str | None = typer.Option(
        None,
        help="webdataset: the key of the label in the .json member.",
        show_default="the .cls member",
        rich_help_panel=LABELS,
    ),
    encoding: str | None = typer.Option(
        None,
        help="Text encoding of lists, tables and folder names: cp1252, latin-1, ...",
        show_default="UTF-8",
        rich_help_panel=LABELS,
    ),
    max_side: int | None = typer.Option(
        None,
        help="Shrink images whose longer side exceeds this many pixels.",
        show_default="no limit",
        rich_help_panel=IMAGES,
    ),
    exif: str | None = typer.Option(
        None,
        help="EXIF orientation: ignore (as the published pipelines do) or apply.",
        show_default="ignore",
        rich_help_panel=IMAGES,
    ),
    check: str | None = typer.Option(
        None,
        help="How images are checked: decode (every image in full) or header.",
        show_default="decode",
        rich_help_panel=IMAGES,
    ),
    on_bad: str | None = typer.Option(
        None,
        help="Unreadable images: fail (stop at the end and list them) or skip (leave them out).",
        show_default="fail",
        rich_help_panel=IMAGES,
    ),
    progressive: str | None = typer.Option(
        None,
        help="Progressive JPEGs: baseline (same pixels, faster to decode) or keep (same bytes).",
        show_default="baseline",
        rich_help_panel=IMAGES,
    ),
    format: str | None = typer.Option(
        None,
        help="Shard format: beton (FFCV) or tar (WebDataset).",
        show_default="beton",
        rich_help_panel=FILES,
    ),
    part_size: str | None = typer.Option(
        None, help="Maximum size of a shard.", show_default="32GiB", rich_help_panel=FILES
    ),
    seek_spacing: int | None = typer.Option(
        None,
        help="Bytes of JPEG between two entries of the seek index; 0 for no index.",
        show_default="576",
        rich_help_panel=FILES,
    ),
    raw_budget: str | None = typer.Option(
        None,
        help="Cache of decoded images of the smallest classes: 4GiB, or 10% of the images.",
        show_default="no cache",
        rich_help_panel=FILES,
    ),
    on: str = typer.Option(
        "local",
        help="Where shards are made: local, ray, or ray://HOST:PORT for a cluster.",
        rich_help_panel=STEPS,
    ),
    plan: bool = typer.Option(
        False,
        "--plan",
        help="Only list the source and plan the shards.",
        rich_help_panel=STEPS,
    ),
    task: str | None = typer.Option(
        None,
        help="Only make shard I of the plan in --out; I/N: every N-th from I on. For any "
        "scheduler, in any order.",
        show_default="all",
        rich_help_panel=STEPS,
    ),
    merge: bool = typer.Option(
        False,
        "--merge",
        help="Only write the index in --out, from the shards of the tasks.",
        rich_help_panel=STEPS,
    ),
) -> None:
    """Convert a data set to shards: a few large files and an index."""
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


@commands.command(epilog=examples("fasttail verify shards/inat2018"))
def verify(
    shards: str = typer.Argument(..., help=DATASET_URL),
    as_json: bool = AS_JSON,
) -> None:
    """Verify checksums, offsets and index of a converted data set.

    The exit code is 1 if there is damage."""
    from fasttail.shards import command
    from fasttail.stores import folder_or_url

    command.run_verify(folder_or_url(shards), as_json=as_json)


@commands.command(
    epilog=examples(
        "fasttail index data/*.tar --label-key label",
        "fasttail index --seek shards/places-lt",
    )
)
def index(
    tars: list[Path] = typer.Argument(
        ...,
        metavar="TARS",
        help="WebDataset tars; the split is in the name: train-*, val-*, test-*. With --seek: "
        "directories of converted data sets.",
    ),
    seek: bool = typer.Option(
        False, "--seek", help="Only build the seek index of data sets that are converted already."
    ),
    out: Path | None = typer.Option(
        None, help="Output directory.", show_default="shards/ and the name of the tars' folder"
    ),
    label_key: str | None = typer.Option(
        None,
        help="The key of the label in the .json member.",
        show_default="the .cls member",
    ),
    check: str | None = typer.Option(
        None,
        help="How images are checked: decode (every image in full) or header.",
        show_default="decode",
    ),
    on_bad: str | None = typer.Option(
        None,
        help="Unreadable images: fail (stop at the end and list them) or skip (leave them out).",
        show_default="fail",
    ),
    seek_spacing: int | None = typer.Option(
        None,
        help="Bytes of JPEG between two entries of the seek index; 0 for no index.",
        show_default="576",
    ),
    jobs: int | None = typer.Option(
        None, help="Worker processes.", show_default="all usable cores"
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Index existing WebDataset tars in place, without copying them."""
    from fasttail.shards import command

    if seek:
        command.run_seek(tars, seek_spacing, as_json=as_json)
        return
    options = {"label_key": label_key, "check": check, "on_bad": on_bad, "jobs": jobs}
    command.run_index(tars, out, {**options, "seek_spacing": seek_spacing}, as_json=as_json)


@commands.command(
    epilog=examples(
        "fasttail cache shards/places-lt --budget 4GiB",
        "fasttail cache shards/places-lt --remove",
    )
)
def cache(
    shards: Path = typer.Argument(..., help=DATASET_DIR),
    budget: str | None = typer.Option(
        None, help="Size of the cache: 4GiB of decoded images, or 10% of the images."
    ),
    remove: bool = typer.Option(False, "--remove", help="Delete the cache."),
    as_json: bool = AS_JSON,
) -> None:
    """Cache decoded images of the smallest classes, which are drawn most often."""
    from fasttail.shards import command

    command.run_cache(shards, budget, drop=remove, as_json=as_json)


@commands.command(
    epilog=examples(
        "fasttail inspect shards/places-lt",
        "fasttail inspect shards/mine --html mine.html",
    )
)
def inspect(
    shards: str = typer.Argument(..., help=DATASET_URL),
    as_json: bool = AS_JSON,
    html: Path | None = typer.Option(
        None, help="Also write a page with figures and images.", show_default="no page"
    ),
) -> None:
    """Summarize a converted data set: classes, image sizes, duplicates, loading speed."""
    from fasttail.report import inspect
    from fasttail.stores import folder_or_url

    inspect.show(folder_or_url(shards), as_json=as_json, html=html)
