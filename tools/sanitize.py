"""The decoding kernel under AddressSanitizer and UndefinedBehaviorSanitizer, and under valgrind.

    python tools/sanitize.py [--images DIR ...] [--mutations 10000] [--seed 0]
    python tools/sanitize.py --fuzz CORPUS [--seconds 3600]

Builds `fasttail/kernels/fuzz.c` with the kernel's sources and runs it over JPEG files (a few made
here, of every kind; what libFuzzer found, in tests/kernels/corpus; those under the given folders),
then over random mutations of them. Then valgrind looks for pixels that come from memory nobody
wrote to, which the sanitizers do not see.

`--fuzz` lets clang's libFuzzer look for inputs that reach other code, adds them to the folder
CORPUS, and at the end makes tests/kernels/corpus of those that count.
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

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "fasttail" / "kernels"
FOUND = ROOT / "tests" / "kernels" / "corpus"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1", "-std=gnu11"]
LIBFUZZER = ["-DFT_LIBFUZZER", "-fsanitize=fuzzer", *SANITIZE]
FUZZ_BYTES = 4096  # of an input
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


def build(program: Path, compiler: str, options: list[str]) -> Path:
    """The kernel with fuzz.c as a program."""
    made = runpy.run_path(str(KERNELS / "build.py"))
    sources = [str(KERNELS / name) for name in (*made["SOURCES"], "fuzz.c")]
    libraries = [f"-l{name}" for name in made["LIBRARIES"]]
    command = [compiler, *options, "-pthread", *sources, "-o", str(program), *libraries]
    subprocess.run(command, check=True)
    return program


def check(folder: Path, images: list[Path], mutations: int, seed: int) -> int:
    """The program's exit code, or valgrind's."""
    compiler = os.environ.get("CC", "cc")
    made = jpegs([folder])
    found = [str(path) for path in sorted(FOUND.iterdir())]
    program = build(folder / "fuzz", compiler, SANITIZE)
    files = [*made, *found, *jpegs(images)]
    done = subprocess.run([str(program), str(mutations), str(seed), *files])
    if done.returncode == 0 and shutil.which("valgrind"):
        plain = build(folder / "plain", compiler, PLAIN)
        few = [str(VALGRIND_MUTATIONS), str(seed), *made]
        # Of its vectors valgrind says things that memory filled otherwise does not confirm.
        env = {**os.environ, "JSIMD_FORCENONE": "1"}
        done = subprocess.run([*VALGRIND, str(plain), *few], env=env)
    return done.returncode


def hunt(folder: Path, corpus: Path, seconds: int) -> int:
    """libFuzzer's exit code; a fault's input is left in the working directory."""
    if not shutil.which("clang"):
        sys.exit("--fuzz needs clang: apt install clang")
    program = build(folder / "libfuzzer", "clang", LIBFUZZER)
    corpus.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_len={FUZZ_BYTES}", f"-max_total_time={seconds}"]
    for path in folder.glob("*.jpg"):
        shutil.copy(path, corpus)
    code = subprocess.run([str(program), *limits, str(corpus)]).returncode
    if code == 0:
        shutil.rmtree(FOUND, ignore_errors=True)
        FOUND.mkdir()
        # By the code that is reached, not by how often: many times fewer.
        merge = [str(program), "-merge=1", "-use_counters=0", f"-max_len={FUZZ_BYTES}"]
        code = subprocess.run([*merge, str(FOUND), str(corpus)]).returncode
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=Path, action="append", default=[])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fuzz", type=Path, metavar="CORPUS", help="with libFuzzer, for a while")
    parser.add_argument("--seconds", type=int, default=3600, help="of --fuzz")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sanitize-") as folder:
        make_images(Path(folder))
        if args.fuzz is not None:
            return hunt(Path(folder), args.fuzz, args.seconds)
        return check(Path(folder), args.images, args.mutations, args.seed)


if __name__ == "__main__":
    sys.exit(main())
