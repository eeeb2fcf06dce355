"""ARM's vectors, on a machine of another kind: cross-compiled, run by an emulator."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fasttail.kernels import build

from .conftest import every_kind

CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
WITH_LIBJPEG = {"baseline.c", "jpeg_roi.c", "pool.c", "strict.c"}


@pytest.mark.skipif(
    not all(map(shutil.which, (CROSS, EMULATOR, "cc"))),
    reason="apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user",
)
def test_neon_makes_the_same_pixels_as_plain_c(tmp_path: Path) -> None:
    files = []
    for size in [(70, 90), (33, 17), (1, 1), (1, 40)]:
        for kind, jpeg in every_kind(*size).items():
            if not kind.startswith("progressive"):
                files.append(tmp_path / f"{kind} {size[0]}x{size[1]}.jpg".replace(":", ""))
                files[-1].write_bytes(jpeg)
    said = {}
    for name, compiler, run in (("c", "cc", []), ("neon", CROSS, [EMULATOR])):
        program = tmp_path / name
        sources = [build.HERE / source for source in build.SOURCES if source not in WITH_LIBJPEG]
        sources.append(Path(__file__).parent / "pixels.c")
        command = [compiler, "-O2", "-std=gnu11", "-ffp-contract=off", "-static", f"-I{build.HERE}"]
        command += [*map(str, sources), "-o", str(program), "-lm", "-pthread"]
        subprocess.run(command, check=True)
        env = {**os.environ, "FASTTAIL_SIMD": name}
        done = subprocess.run(
            [*run, str(program), *map(str, files)],
            check=True,
            capture_output=True,
            text=True,
            env=env,
        )
        assert done.stderr.split() == [name]
        said[name] = done.stdout
    assert said["c"].count("\n") == 61 * len(files)
    assert said["neon"] == said["c"]
    for line in said["c"].splitlines():
        words = line.split()
        if len(words) == 3:  # an item: decoded, and from planes the same
            assert words[0] == "0"
            assert words[1] == words[2]
