"""A run's directory: what was asked for, the weights, the heads, the numbers.

runs/NAME/
  run.json             configuration, data set, versions, command: what made it
  start.safetensors    the weights that stage 1 starts from, if --init gave some
  engine.json          which engine `auto` meant, and what was measured to find out
  log.jsonl            one object a line, as the training went
  stage2.json          the same of stage 2
  checkpoints/         to resume from
  model.safetensors    backbone and classifier at the end of stage 1; a frozen backbone alone
  heads/METHOD.safetensors            of the official protocol METHOD-official.safetensors
  features/            the frozen backbone's features, kept for every head
  tau_sweep.csv        accuracy by split and shot group for every tau of the grid
  per_class.csv        each class's accuracy by method and split
  metrics.json         {"rows": [{"method", "split", "protocol", "all_micro", ...}, ...]}
"""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import fasttail
from fasttail import atomic, recipes, records, stores
from fasttail.atomic import whole_path
from fasttail.config import TrainConfig
from fasttail.engines.trial import Choice
from fasttail.errors import UserError
from fasttail.records import EngineJson, Form, MetricsJson, RunJson, Stage2Json

FORMAT = 1
RUNS = Path("runs")
START = "start.safetensors"
MODEL = "model.safetensors"
WAIT_S = 60.0


@dataclass(frozen=True)
class Run:
    """An existing run directory and what it was made from."""

    dir: Path
    config: TrainConfig
    shards_dir: Path | str  # a URL where they are in a store
    shards_digest: str
    dataset: str
    class_names: tuple[str, ...]
    protocol: str = "clean"  # stage 1's, whatever stage 2 is done by
    init: str | None = None  # what --init said
    frozen: Mapping[str, Any] | None = None  # no stage 1: what the backbone expects of images
    provenance: Mapping[str, Any] = field(default_factory=dict)  # stage 1's

    @property
    def start_path(self) -> Path:
        return self.dir / START

    @property
    def model_path(self) -> Path:
        return self.dir / MODEL

    @property
    def checkpoints_dir(self) -> Path:
        return self.dir / "checkpoints"

    @property
    def features_dir(self) -> Path:
        return self.dir / "features"

    @property
    def log_path(self) -> Path:
        return self.dir / "log.jsonl"

    @property
    def metrics_path(self) -> Path:
        return self.dir / "metrics.json"

    def head_path(self, name: str) -> Path:
        return self.dir / "heads" / f"{name}.safetensors"

    def with_config(self, config: TrainConfig) -> "Run":
        """The same run, worked on with another configuration."""
        return replace(self, config=config)

    def note_stage2(self) -> None:
        """Keeps what stage 2 was asked for, in stage2.json."""
        about = {"config": self.config.model_dump(mode="json"), "provenance": provenance()}
        write_json(self.dir / "stage2.json", about)

    def note_engine(self, choice: Choice) -> None:
        """Keeps what `auto` meant, and what was measured for it, in engine.json."""
        write_json(self.dir / "engine.json", asdict(choice))

    @property
    def decoder(self) -> str | None:
        """The engine that `auto` meant in stage 1; None if it has not been decided."""
        path = self.dir / "engine.json"
        return records.read(path, EngineJson)["engine"] if path.exists() else None

    def stage2(self) -> dict[str, Any] | None:
        """What `note_stage2` kept; None if there was no stage 2."""
        path = self.dir / "stage2.json"
        return records.read(path, Stage2Json) if path.exists() else None

    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.json; none if it is not there yet."""
        if not self.metrics_path.exists():
            return []
        return records.read(self.metrics_path, MetricsJson)["rows"]

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Puts rows into metrics.json; one of the same method, split and protocol is replaced."""
        keys = ("method", "split", "protocol")
        merged = {tuple(row[key] for key in keys): row for row in [*self.rows(), *rows]}
        write_json(self.metrics_path, {"rows": list(merged.values())})


def create(
    directory: Path,
    config: TrainConfig,
    *,
    shards_dir: Path | str,
    shards_digest: str,
    dataset: str,
    class_names: Sequence[str],
    init: str | None = None,
    frozen: Mapping[str, Any] | None = None,
    weights: Mapping[str, Callable[[Path], object]] | None = None,
) -> Run:
    """Makes a new run directory. `UserError` if there is a run there: nothing is overwritten.

    `weights` writes those that the run begins with, by file (START or MODEL), and `init` says what
    they are. They come before run.json, which makes the directory a run: there is no run without
    them. `frozen` is given where there is no stage 1: what is known of how the backbone was shown
    images.
    """
    try:
        _clear(directory)
        if directory.exists() and any(directory.iterdir()):
            raise UserError(
                f"{directory} already exists: continue it with --resume, or choose another "
                "name with --run"
            )
        directory.mkdir(parents=True, exist_ok=True)
        for name, write in (weights or {}).items():
            write(directory / name)
        write_json(
            directory / "run.json",
            {
                "format": FORMAT,
                "dataset": dataset,
                "shards": stores.place(shards_dir),
                "shards_digest": shards_digest,
                "class_names": list(class_names),
                "init": init,
                "frozen": frozen,
                "config": config.model_dump(mode="json"),
                "provenance": provenance(),
            },
        )
    except OSError as error:
        raise atomic.explain(error, directory, "run the same command again") from error
    return open_run(directory)


def _clear(directory: Path) -> None:
    """Takes away what a kill within `create` has left: without run.json nothing was trained."""
    if not (directory / "run.json").exists():
        for name in (START, f".{START}.tmp", MODEL, f".{MODEL}.tmp", ".run.json.tmp"):
            (directory / name).unlink(missing_ok=True)


def open_run(directory: Path) -> Run:
    """Opens a run directory. `UserError` if there is none, or another version wrote it."""
    path = directory / "run.json"
    if not path.is_file():
        raise UserError(f"{directory}: no run here (no run.json){_nearby()}")
    about = records.read(path, Form)
    if about.get("format") != FORMAT:
        raise UserError(f"{path}: format {about.get('format')!r}, this version reads {FORMAT}")
    records.check(about, RunJson, path)
    config = recipes.check(about["config"], str(path))
    return Run(
        dir=directory,
        config=config,
        shards_dir=stores.folder_or_url(about["shards"]),
        shards_digest=about["shards_digest"],
        dataset=about["dataset"],
        class_names=tuple(about["class_names"]),
        protocol=config.protocol,
        init=about.get("init"),
        frozen=about.get("frozen"),
        provenance=about.get("provenance", {}),
    )


@contextmanager
def held(run: Run) -> Iterator[None]:
    """Keeps other commands from writing into the run. `UserError` if one is at work there."""
    busy = UserError(
        f"another fasttail is at work on {run.dir}: wait for it, or begin another run with --run"
    )
    with atomic.held(run.dir / "run.json", busy):
        yield


@contextmanager
def discarded_if_refused(run: Run, *, new: bool) -> Iterator[None]:
    """Takes a `new` run's directory away again if the block ends in a `UserError` before anything
    was trained: the mistake mended, the same command works as it stands."""
    try:
        yield
    except UserError:
        trained = run.log_path.exists() and '"kind": "train"' in run.log_path.read_text()
        if new and not trained and not run.checkpoints_dir.exists():
            shutil.rmtree(run.dir)
        raise


def wait_for(directory: Path) -> Run:
    """The run that the main process is making, for the other processes of the job.

    Raises `UserError` if it has not come within a minute.
    """
    deadline_s, path = time.monotonic() + WAIT_S, directory / "run.json"
    while not path.is_file():
        if time.monotonic() > deadline_s:
            raise UserError(
                f"{path}: not there after {WAIT_S:g} s: do all nodes see the same disk?"
            )
        time.sleep(0.05)
    return open_run(directory)


def only_run() -> Path:
    """The only run in runs/, or a `UserError` that says which there are."""
    found = _found()
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError("there is no run in runs/ yet: start with fasttail train --stage rep")
    raise UserError(f"which run? --run one of {', '.join(map(str, found))}")


def _found() -> list[Path]:
    return sorted(path.parent for path in RUNS.glob("*/run.json"))


def _nearby() -> str:
    found = _found()
    return f"; there is {', '.join(map(str, found))}" if found else ""


def provenance() -> dict[str, Any]:
    """What a number has to travel with: command, time, versions, machine, commit."""
    return {
        "command": shlex.join(["fasttail", *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "fasttail": fasttail.__version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {
            name: _version(name)
            for name in ("torch", "torchvision", "numba", "numpy", "ffcv", "nvidia-dali-cuda120")
        },
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _version(package: str) -> str | None:
    try:
        return package_version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the checkout that fasttail runs from, if it is one."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all. Not-a-number is refused: JSON has none."""
    text = json.dumps(value, indent=2, allow_nan=False)
    with whole_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
