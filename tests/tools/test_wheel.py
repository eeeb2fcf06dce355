"""The wheel, built with a compiler that makes an empty file, and without one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.tags import compatible_tags
from packaging.utils import parse_wheel_filename

from fasttail.kernels.build import HOW_TO_BUILD

pytest.importorskip("setuptools")
ROOT = Path(__file__).parents[2]
COMPILER = '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\n: >"$2"\n'
MAKE = "from setuptools import build_meta; print(build_meta.build_{}('dist'))"


def make(what: str, folder: Path, compiler: str) -> tuple[Path, str]:
    """A wheel or sdist of a folder, and what the build says."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MAKE.format(what)],
        cwd=folder,
        env={**os.environ, "CC": compiler},
        capture_output=True,
        text=True,
        check=True,
    )
    return folder / "dist" / done.stdout.splitlines()[-1], done.stderr


def build(folder: Path, compiler: str) -> tuple[Path, str]:
    """The wheel out of the sdist, and what its build says at its end."""
    for name in ("fasttail", "configs"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    sdist, _ = make("sdist", folder, compiler)
    (folder / "unpacked").mkdir()
    subprocess.run(["tar", "-xzf", sdist, "-C", folder / "unpacked"], check=True)
    return make("wheel", folder / "unpacked" / sdist.name.removesuffix(".tar.gz"), compiler)


def test_one_wheel_with_the_kernel_serves_every_python(tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    wheel, said = build(tmp_path / "source", str(compiler))
    names = set(ZipFile(wheel).namelist())
    assert {
        "fasttail/kernels/_jpeg_roi.so",
        "fasttail/kernels/jpeg_roi.c",
        "fasttail/datasets/digits.npz",
        "fasttail/configs/digits.yaml",
    } <= names
    assert "WITHOUT" not in said
    tags = parse_wheel_filename(wheel.name)[3]
    assert len(tags) == 1
    (tag,) = tags
    for minor in (11, 12, 13, 14):
        assert tag in set(compatible_tags((3, minor), f"cp3{minor}", [tag.platform]))
    assert tag.platform != "any"


def test_without_a_compiler_the_build_ends_by_saying_so(tmp_path: Path) -> None:
    wheel, said = build(tmp_path / "source", "no-such-compiler")
    assert not [name for name in ZipFile(wheel).namelist() if name.endswith(".so")]
    last = said.splitlines()[-1]
    assert last.startswith("fasttail is installed WITHOUT its decoding kernel")
    assert last.endswith(HOW_TO_BUILD)
