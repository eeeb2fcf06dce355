"""What each difference between the clean and the official protocol does to the numbers, one at a
time: the table of docs/protocols.md.

    python tools/measure_protocols.py --run runs/cifar10-lt-resnet32-instance --seeds 3
    python tools/measure_protocols.py --run ... --images --json protocols.json --markdown table.md

Stage 1 is the run's; its directory is read only. Each line is the run's configuration, under the
clean protocol, with one thing changed, and its difference to the line that it is compared with.
`--seeds` repeats stage 2 with other draws and other fresh weights. Without `--images` the lines
that train on images are left out, without a val those that need it; `--stage1 EPOCHS` adds the
lines that need a stage 1 of their own, whose seeds are of stage 1. With `--json` each line is kept
once it is measured, and the same call goes on after them.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fasttail import classify, rundir, shards, stages
from fasttail.classify import Stage
from fasttail.compute import pick
from fasttail.console import Reporter
from fasttail.engines.kept import Kept
from fasttail.protocol import reported
from fasttail.recipes import change, parse_settings
from fasttail.rundir import Run
from fasttail.train import rep
from fasttail.train.checkpoint import Checkpoints
from fasttail.world import World

COSINE = ("classify.crt.schedule=cosine", "classify.lws.schedule=cosine")
PER_EPOCH = ("classify.crt.lr_per=epoch", "classify.lws.lr_per=epoch")
STAGE1_COSINE = ("optim.schedule=cosine",)
NO_WARMUP = ("optim.warmup_epochs=0",)
IMAGES = ("classify.features=images",)
TRAINED = ("crt", "lws")
MEASURES = ("all_micro", "many", "medium", "few")


@dataclass(frozen=True)
class Line:
    """One configuration: settings over the run's, and the line that it is compared with."""

    name: str
    settings: tuple[str, ...]
    methods: tuple[str, ...]
    against: str | None = None
    needs: str = ""  # "images" or "val"
    keeps: str = "last"  # the epoch of stage 1 whose model is scored: "last", or "best" on val


LINES = (
    Line("clean", (), (*TRAINED, "tau", "ncm")),
    Line("official class-balanced order", ("classify.order=official",), TRAINED, "clean"),
    Line("cosine", COSINE, TRAINED),
    Line("cosine per epoch, before it", (*COSINE, *PER_EPOCH), TRAINED, "cosine"),
    Line("best epoch on val", ("classify.keep=best",), TRAINED, "clean", "val"),
    Line("tau with bias", ("classify.tau.bias=true",), ("tau",)),
    Line("tau without bias", ("classify.tau.bias=false",), ("tau",), "tau with bias"),
    Line("tau read off test", ("classify.tau.choose_on=test",), ("tau",), "clean"),
    Line("NCM by L2", ("classify.ncm.metric=l2",), ("ncm",), "clean"),
    Line("NCM by dot / D", ("classify.ncm.metric=dot",), ("ncm",), "clean"),
    Line("on images, augmented", IMAGES, TRAINED, "clean", "images"),
    Line(
        "BatchNorm in train mode",
        (*IMAGES, "classify.batchnorm=train"),
        TRAINED,
        "on images, augmented",
        "images",
    ),
    Line(
        "official, all of it", ("protocol=official",), (*TRAINED, "tau", "ncm"), "clean", "images"
    ),
)

STAGE1 = (
    Line("stage 1, sqrt", ("sampler=sqrt",), ("joint",)),
    Line("i.i.d. draws", ("sampler=sqrt", "draws=iid"), ("joint",), "stage 1, sqrt"),
    Line("stage 1, cosine", STAGE1_COSINE, ("joint",)),
    Line(
        "cosine per epoch, before it, in stage 1",
        (*STAGE1_COSINE, "optim.lr_per=epoch"),
        ("joint",),
        "stage 1, cosine",
    ),
    Line("stage 1, cosine, no warm-up", (*STAGE1_COSINE, *NO_WARMUP), ("joint",)),
    Line(
        "cosine per epoch, before it, in stage 1, no warm-up",
        (*STAGE1_COSINE, *NO_WARMUP, "optim.lr_per=epoch"),
        ("joint",),
        "stage 1, cosine, no warm-up",
    ),
    Line("stage 1, class", ("sampler=class",), ("joint",)),
    Line(
        "official order in stage 1",
        ("sampler=class", "draws=official"),
        ("joint",),
        "stage 1, class",
    ),
    Line("stage 1", (), ("joint",), None, "val"),
    Line("best epoch on val, in stage 1", (), ("joint",), "stage 1", "val", keeps="best"),
)

Rows = dict[str, dict[str, float]]


def stage2(run: Run, home: Path, line: Line, seed: int, reporter: Reporter) -> Rows:
    """A line's methods on the reported split. `home` is a run directory with the run's model in it,
    where features are kept from line to line."""
    settings = ["protocol=clean", f"seed={seed}", "compute.compile=false", *line.settings]
    own = replace(run, dir=home, config=change(run.config, parse_settings(settings)))
    compute = pick(own.config.compute, World())
    opened = shards.open(run.shards_dir)
    with Kept(own.config.data, compute.device) as engines:
        model = rep.load_model(own, compute)
        stage = Stage(own, model, opened, World(), compute, reporter, engines)
        if line.methods == ("joint",):
            heads = [classify.joint_head(stage.model)]
        else:
            heads = list(classify.make_heads(line.methods, stage))
        split = reported(opened.split_names)
        if split is None:
            raise SystemExit(f"{run.shards_dir}: neither test nor val to score on")
        return {row["method"]: row for row in classify.score_heads(heads, stage, split)}


def stage1(run: Run, home: Path, line: Line, seed: int, epochs: int, reporter: Reporter) -> Rows:
    """The joint classifier of a stage 1 with the line's settings. Its run stays in `home`, for the
    lines that look at another epoch of the same training."""
    trained_dir = home / "-".join((*line.settings, f"seed={seed}"))
    if trained_dir.exists():
        trained = rundir.open_run(trained_dir)
    else:
        trained = stages.train(
            stages.TrainOptions(
                stage="rep",
                config=run.config,
                shards=run.shards_dir,
                run=trained_dir,
                flags={"epochs": epochs},
                settings=("protocol=clean", f"seed={seed}", *line.settings),
            ),
            reporter,
        )
    if not trained.model_path.exists():
        raise SystemExit("asked to leave: the same call measures this line again")
    weights = trained.model_path
    if line.keeps == "best":
        weights = trained.checkpoints_dir / Checkpoints.BEST
    return stage2(trained, scored_alone(weights, trained_dir / line.keeps), line, seed, reporter)


def scored_alone(weights: Path, home: Path) -> Path:
    """A run directory with nothing in it but a model's weights."""
    home.mkdir(exist_ok=True)
    (home / "model.safetensors").symlink_to(weights.resolve())
    return home


def spread(values: Sequence[float]) -> str:
    tail = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{tail}"


def markdown(found: dict[str, list[Rows]], lines: Sequence[Line]) -> str:
    """The table: a line for each method of each line."""
    text = ["| what is changed | head | all | many | medium | few | difference |"]
    text.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for line in lines:
        if line.name not in found:
            continue
        for method in line.methods:
            rows = [rows[method] for rows in found[line.name]]
            cells = [
                "-" if rows[0][measure] is None else spread([row[measure] for row in rows])
                for measure in MEASURES
            ]
            difference = ""
            if line.against is not None:
                before = [rows[method]["all_micro"] for rows in found[line.against]]
                after = [row["all_micro"] for row in rows]
                pairs = [b - a for a, b in zip(before, after, strict=True)]
                tail = f" ± {statistics.stdev(pairs):.2f}" if len(pairs) > 1 else ""
                difference = f"{statistics.fmean(pairs):+.2f}{tail}"
            text.append(f"| {line.name} | {method} | {' | '.join(cells)} | {difference} |")
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="What each difference between the protocols does to the numbers."
    )
    parser.add_argument("--run", type=Path, required=True, help="a run whose stage 1 has ended")
    parser.add_argument("--seeds", type=int, default=1, help="of stage 2's draws")
    parser.add_argument("--images", action="store_true", help="the lines that train on images too")
    parser.add_argument(
        "--stage1", type=int, default=0, metavar="EPOCHS", help="stage 1's lines too"
    )
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    args = parser.parse_args()

    run, reporter = rundir.open_run(args.run), Reporter()
    has_val = "val" in shards.open(run.shards_dir).split_names
    there = {"", *(["images"] if args.images else []), *(["val"] if has_val else [])}
    every = (*LINES, *(STAGE1 if args.stage1 else ()))
    lines = [line for line in every if line.needs in there]
    about = {"run": run.dir.name, "seeds": args.seeds, "stage1_epochs": args.stage1}
    found = measured(args.json, about) if args.json else {}
    with tempfile.TemporaryDirectory() as folder:
        home = scored_alone(run.model_path, Path(folder))
        for line in lines:
            if line.name in found:
                continue
            reporter.say(line.name)
            found[line.name] = [
                stage1(run, home, line, seed, args.stage1, reporter)
                if line in STAGE1
                else stage2(run, home, line, seed, reporter)
                for seed in range(args.seeds)
            ]
            if args.json:
                whole = {**about, "lines": found, "provenance": rundir.provenance()}
                args.json.write_text(json.dumps(whole, indent=2) + "\n")
    table = markdown(found, lines)
    print(table)
    if args.markdown:
        args.markdown.write_text(table)


def measured(path: Path, about: dict[str, Any]) -> dict[str, list[Rows]]:
    """The lines that an earlier call of the same run, seeds and epochs measured before it was
    stopped; `SystemExit` where the file is of another."""
    if not path.exists():
        return {}
    kept: dict[str, Any] = json.loads(path.read_text())
    if {key: kept.get(key) for key in about} != about:
        raise SystemExit(f"{path}: of another run, other seeds or epochs: choose another --json")
    lines: dict[str, list[Rows]] = kept["lines"]
    return lines


if __name__ == "__main__":
    main()
