"""A machine where torch, torchvision and a handful of small packages are all there is, as on many
clusters' GPU nodes: everything else is optional, and what is missing is said once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SITE = Path(torch.__file__).parents[1]

# What fasttail needs to train, what those packages need themselves, and their metadata's names.
PRESENT = """
    torch torchvision numba typer rich yaml safetensors pydantic
    numpy PIL llvmlite functorch torchgen triton cuda sympy mpmath networkx jinja2 markupsafe
    filelock fsspec typing_extensions typing_inspection annotated_types annotated_doc pydantic_core
    click shellingham markdown_it mdurl pygments setuptools packaging
    pyyaml pillow nvidia_nccl_cu13
"""
ABSENT = ("tensorboard", "sklearn", "psutil", "scipy", "matplotlib", "nvidia.dali", "ffcv", "tqdm")
CUDA = "nvidia"  # a folder of many packages' parts, DALI's among them

# Everything that has to do with training, on a handful of images.
TRAIN = """
import sys
from pathlib import Path
from fasttail import stages
from fasttail.engines import dali, ffcv, reference, resident, synthetic
from fasttail.stages import TrainOptions

shards, run = Path(sys.argv[1]), Path(sys.argv[2])
tiny = ("optim.batch_size=16", "model.backbone=resnet20", "compute.device=cpu",
        "classify.crt.epochs=1", "classify.lws.epochs=1", "classify.crt.batch_size=16",
        "classify.lws.batch_size=16")
stages.train(TrainOptions("rep", shards=shards, run=run, flags={"epochs": 1}, settings=tiny))
stages.train(TrainOptions("cls", run=run))
assert (run / "metrics.json").exists()
import bench_loaders, bench_train, gpu_check, _gpu_parts, _loaders
print("trained")
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages that has only the few."""
    folder = tmp_path_factory.mktemp("site")
    present = PRESENT.lower().split()
    for path in SITE.iterdir():
        name = path.name.partition("-")[0].partition(".")[0].lower()
        if name in present or path.name.endswith(".libs"):
            (folder / path.name).symlink_to(path)
    (folder / CUDA).mkdir()
    for path in (SITE / CUDA).glob("*"):
        if path.name != "dali":
            (folder / CUDA / path.name).symlink_to(path)
    return folder


def python(few: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT), str(ROOT / "tools"), str(few)]
    return subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments],  # -S: nothing of the environment's own
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": ":".join(paths), "NO_COLOR": "1"},
    )


def test_both_stages_run_where_nothing_optional_is_installed(
    few: Path, blob_shards: Path, tmp_path: Path
) -> None:
    done = python(few, TRAIN, str(blob_shards), str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "trained" in done.stdout
    assert done.stderr.count("tensorboard is not installed") == 1


def test_the_gpu_tests_are_found_with_pytest_alone(few: Path, tmp_path: Path) -> None:
    for name in ("pytest", "_pytest", "py.py", "pluggy", "iniconfig"):
        (tmp_path / name).symlink_to(SITE / name)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import pytest; "
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    tests = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "--collect-only"]
    done = python(few, code, *tests, str(ROOT / "tests/engines/test_gpu.py"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "test_dali_decodes_every_kind_of_jpeg_on_the_gpu" in done.stdout


def test_the_packages_that_are_kept_away_are_really_away(few: Path) -> None:
    code = "from importlib.util import find_spec as f; import sys; print([*map(f, sys.argv[1:])])"
    done = python(few, code, *ABSENT)
    assert done.stdout == f"{[None] * len(ABSENT)}\n", done.stderr
