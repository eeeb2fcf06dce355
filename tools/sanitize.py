"""The decoding kernel under AddressSanitizer and UndefinedBehaviorSanitizer, and under valgrind.

    python tools/sanitize.py [--images DIR ...] [--mutations 10000] [--seed 0]

Builds `fasttail/kernels/fuzz.c` with the kernel's sources and runs it over the JPEG files under the
given folders (or a few made here, of every kind), then over random mutations of them. Then valgrind
looks for pixels that come from memory nobody wrote to, which the sanitizers do not see.
"""

import argparse
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).parents[1] / "fasttail" / "kernels"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1", "-std=gnu11"]
PLAIN = ["-g", "-O1", "-std=gnu11", "-ffp-contract=off"]
VALGRIND = ["valgrind", "-q", "--error-exitcode=3"]
VALGRIND_MUTATIONS = 50
LARGEST_BYTES = 1_000_000


def make_images(folder: Path) -> None:
    """JPEGs of every kind that Pillow writes, and of every sampling."""
    import _jpeg_writer
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    plain: dict[str, Any] = {}
    kinds = [plain, {"progressive": True}, {"restart_marker_blocks": 2}]
    for size in [(64, 48), (33, 17), (1, 1), (1, 60), (200, 150)]:
        cells = rng.integers(0, 256, (-(-size[1] // 8), -(-size[0] // 8), 3), dtype=np.uint8)
        image = Image.fromarray(cells).resize(size)
        for subsampling in (0, 1, 2):
            for extra in kinds:
                name = f"{size[0]}x{size[1]}-{subsampling}-{'-'.join(extra) or 'plain'}.jpg"
                image.save(folder / name, quality=85, subsampling=subsampling, **extra)
        for sampling in _jpeg_writer.SAMPLINGS:
            name = f"{size[0]}x{size[1]}-{sampling.replace(':', '')}.jpg"
            (folder / name).write_bytes(_jpeg_writer.write(np.array(image), sampling))
        image.convert("L").save(folder / f"{size[0]}x{size[1]}-grey.jpg")
        image.convert("CMYK").save(folder / f"{size[0]}x{size[1]}-cmyk.jpg")


def jpegs(folders: list[Path]) -> list[str]:
    """Every file that begins as a JPEG, whatever it is called."""
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.stat().st_size <= LARGEST_BYTES:
                with path.open("rb") as file:
                    if file.read(2) == b"\xff\xd8":
                        found.append(str(path))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=Path, action="append", default=[])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    build = runpy.run_path(str(KERNELS / "build.py"))
    with tempfile.TemporaryDirectory(prefix="sanitize-") as folder:
        make_images(Path(folder))
        program = Path(folder) / "fuzz"
        sources = [str(KERNELS / name) for name in (*build["SOURCES"], "fuzz.c")]
        libraries = [f"-l{name}" for name in build["LIBRARIES"]]
        compiler = os.environ.get("CC", "cc")
        files = [str(path) for path in sorted(Path(folder).glob("*.jpg"))]
        plain = Path(folder) / "plain"
        for options, made in ((SANITIZE, program), (PLAIN, plain)):
            command = [compiler, *options, "-pthread", *sources, "-o", str(made), *libraries]
            subprocess.run(command, check=True)
        arguments = [str(args.mutations), str(args.seed), *jpegs([Path(folder), *args.images])]
        done = subprocess.run([str(program), *arguments])
        if done.returncode == 0 and shutil.which("valgrind"):
            few = [str(VALGRIND_MUTATIONS), str(args.seed), *files]
            # Of its vectors valgrind says things that memory filled otherwise does not confirm.
            env = {**os.environ, "JSIMD_FORCENONE": "1"}
            done = subprocess.run([*VALGRIND, str(plain), *few], env=env)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
