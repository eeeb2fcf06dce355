"""Builds the decoding kernel: `python -m fasttail.kernels.build [--out DIR]`.

Installing the package does this too (setup.py takes what it needs from here), and goes on without
the kernel where a compiler or libjpeg-turbo's headers are missing. It can be built afterwards, or
on another machine of the same kind: `FASTTAIL_KERNEL_DIR` names a folder to take it from.

Only the standard library is imported: this file also runs where the package's needs are not there.
"""

import argparse
import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

SOURCES = (
    "axis.c",
    "baseline.c",
    "canvas.c",
    "cpu.c",
    "crc32.c",
    "entropy.c",
    "header.c",
    "huffman.c",
    "jpeg_roi.c",
    "native.c",
    "pixels.c",
    "pixels_avx2.c",
    "pixels_avx512.c",
    "pixels_c.c",
    "pixels_neon.c",
    "planes.c",
    "pool.c",
    "resize.c",
    "seek.c",
    "strict.c",
    "weights.c",
)
HEADERS = (
    "canvas.h",
    "cpu.h",
    "fasttail.h",
    "idct_body.h",
    "jpeg.h",
    "native.h",
    "pixels.h",
    "resize_body.h",
    "seek.h",
    "simd_avx2.h",
    "simd_avx512.h",
    "simd_c.h",
    "simd_neon.h",
    "strict.h",
)
LIBRARIES = ("jpeg", "m")
NAME = "_jpeg_roi"
HERE = Path(__file__).parent
HOW_TO_BUILD = "apt install gcc libjpeg-dev; python -m fasttail.kernels.build"

FLAGS = (
    "-O3",
    "-std=gnu11",
    "-fvisibility=hidden",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-Wno-clobbered",
    # A product and a sum stay two roundings: filters have the same weights on every machine.
    "-ffp-contract=off",
)


def digest() -> str:
    """Identifies the sources and flags: a library knows which it was built from."""
    content = hashlib.sha256(repr(FLAGS).encode())
    for name in (*SOURCES, *HEADERS):
        content.update((HERE / name).read_bytes())
    return content.hexdigest()[:16]


def define() -> tuple[str, str]:
    """The macro that tells the library its sources, and the macro's value."""
    return "FT_DIGEST", f'"{digest()}"'


def build(out: Path, flags: tuple[str, ...] = ()) -> Path:
    """Compiles the library into the folder `out` with the compiler `$CC` (or `cc`).

    Raises `FileNotFoundError` if there is no compiler, `subprocess.CalledProcessError`, with the
    compiler's words in `stderr`, if it refuses.
    """
    out.mkdir(parents=True, exist_ok=True)
    library = out / f"{NAME}.so"
    # Under another name first: a library that is loaded somewhere must not be written into.
    fresh = out / f".{NAME}.{os.getpid()}.so"
    name, value = define()
    subprocess.run(
        [
            *shlex.split(os.environ.get("CC", "cc")),
            *FLAGS,
            *flags,
            *shlex.split(os.environ.get("CFLAGS", "")),
            f"-D{name}={value}",
            "-shared",
            "-fPIC",
            *(str(HERE / source) for source in SOURCES),
            "-o",
            str(fresh),
            *shlex.split(os.environ.get("LDFLAGS", "")),
            *(f"-l{library}" for library in LIBRARIES),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    fresh.replace(library)
    return library


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds fasttail's decoding kernel.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the library")
    out: Path = parser.parse_args().out
    try:
        print(build(out))
    except FileNotFoundError as error:
        print(f"no C compiler ({error.filename}): apt install gcc libc6-dev", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        print("apt install libc6-dev libjpeg-dev, where headers are missing", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
