"""Building the kernel after the installation, and what is said where it can't be used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fasttail.kernels import build

ROOT = Path(__file__).parents[2]
ASK = "from fasttail import kernels; print(kernels.available(), kernels.why_missing())"


def ask(folder: Path) -> str:
    env = {**os.environ, "FASTTAIL_KERNEL_DIR": str(folder)}
    command = [sys.executable, "-c", ASK]
    return subprocess.run(
        command, cwd=ROOT, env=env, check=True, capture_output=True, text=True
    ).stdout.strip()


def make(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fasttail.kernels.build", "--out", str(folder)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True
    )


@pytest.mark.skipif(
    shutil.which("cc") is None or not Path("/usr/include/jpeglib.h").exists(),
    reason="no C compiler or no libjpeg headers",
)
def test_a_kernel_built_in_a_folder_is_used_from_there(tmp_path: Path) -> None:
    built = make(tmp_path)
    assert built.returncode == 0, built.stderr
    assert ask(tmp_path) == "True"


def test_without_a_compiler_one_line_says_what_to_install(tmp_path: Path) -> None:
    built = make(tmp_path, CC="no-such-compiler")
    assert built.returncode == 2
    assert built.stderr == "no C compiler (no-such-compiler): apt install gcc libc6-dev\n"


def test_a_missing_or_foreign_library_is_no_kernel_and_says_why(tmp_path: Path) -> None:
    assert "has no _jpeg_roi*.so" in ask(tmp_path)
    (tmp_path / "_jpeg_roi.so").write_bytes(b"no library")
    assert "can't be loaded" in ask(tmp_path)


def test_the_digest_changes_with_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*build.SOURCES, *build.HEADERS):
        shutil.copy(build.HERE / name, tmp_path)
    before = build.digest()
    monkeypatch.setattr(build, "HERE", tmp_path)
    assert build.digest() == before
    with (tmp_path / "resize.c").open("a") as source:
        source.write("\n")
    assert build.digest() != before
