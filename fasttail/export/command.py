"""`fasttail export`."""

from pathlib import Path

from fasttail.config import ComputeConfig
from fasttail.console import Reporter
from fasttail.errors import unknown
from fasttail.export.formats import FORMATS, writing
from fasttail.export.source import load_run

# Exported weights are float32, and a graph is traced where everybody has a device.
PLAIN = ComputeConfig(device="cpu", amp="fp32", channels_last=False)


def export(
    run_dir: Path | None,
    method: str | None,
    to: str,
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Writes a run's classifier to a file (RUN/exports/METHOD.* if `out` is not given); returns its
    path. `UserError` for a run, method or format that is not there."""
    if to not in FORMATS:
        raise unknown("format", to, FORMATS)
    reporter = reporter or Reporter()
    trained = load_run(run_dir, method, PLAIN)
    save, suffix = FORMATS[to]
    about = trained.about
    path = out or trained.run.dir / "exports" / f"{about.method}{suffix}"
    with writing(path):
        save(path, trained.deployed(), about)
    note = f" ({about.note})" if about.note else ""
    reporter.say(
        f"{path}: {about.method}{note} of {trained.run.dir}, {about.backbone}, "
        f"{len(about.class_names):,} classes; input {about.input}"
    )
    return path
