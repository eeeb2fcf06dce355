#!/bin/sh
# Builds the sdist, from it the wheel, and tries the wheel where nothing of the checkout is: in a fresh
# virtual environment and an empty folder. Needs PyPI.
#
#   sh tools/check_wheel.sh [--keep]     --keep: leaves the folder, and says where it is
#   PYTHON=python3.11                    the interpreter that the environments are made with
set -eu

PYTHON=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
if [ "${1:-}" = --keep ]; then
    echo "check_wheel: everything is in $work"
else
    trap 'rm -rf "$work"' EXIT
fi
say() { printf 'check_wheel: %s\n' "$*"; }

# build makes the wheel out of the sdist, so that the sdist is seen to be whole.
"$PYTHON" -m venv "$work/build"
"$work/build/bin/pip" install -q --disable-pip-version-check build
"$work/build/bin/python" -m build --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 || {
    tail -n 40 "$work/build.log"
    say "the build failed"
    exit 1
}
wheel=$(echo "$work"/dist/*.whl)
sdist=$(echo "$work"/dist/*.tar.gz)
say "$(basename "$sdist") $(wc -c <"$sdist") bytes, $(basename "$wheel") $(wc -c <"$wheel") bytes"

# What is no Python has to be in both, but for the fuzzer, which tools/sanitize.py builds in a checkout.
tar -tzf "$sdist" | sed 's|^[^/]*/||' | sort >"$work/sdist.txt"
"$PYTHON" -c 'import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist(), sep="\n")' "$wheel" |
    sort >"$work/wheel.txt"
missing=0
count=0
for file in $(cd "$root" && git ls-files configs fasttail/kernels fasttail/py.typed fasttail/report/templates |
    grep -v -e '\.py$' -e '/fuzz\.c$'); do
    case $file in configs/*) packed=fasttail/$file ;; *) packed=$file ;; esac
    count=$((count + 1))
    for list in sdist wheel; do
        grep -qx "$packed" "$work/$list.txt" || {
            say "MISSING in the $list: $packed"
            missing=1
        }
    done
done
[ "$count" -gt 20 ] || {
    say "only $count files were looked for: is this a checkout?"
    exit 1
}
for suffix in yaml j2 css c h; do
    say "in both, .$suffix: $(comm -12 "$work/sdist.txt" "$work/wheel.txt" | grep -c "\.$suffix\$" || true)"
done
[ "$missing" = 0 ] || exit 1
if grep -q '\.so$' "$work/wheel.txt"; then
    say "the decoding kernel is built: $(grep '\.so$' "$work/wheel.txt")"
else
    say "no decoding kernel in the wheel: no C compiler or no libjpeg-dev here"
fi

"$PYTHON" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "$wheel"
mkdir "$work/empty"
cd "$work/empty"
"$work/venv/bin/fasttail" --version
"$work/venv/bin/python" -c 'import fasttail; print("from", fasttail.__path__[0])'
# Tiny batches: more threads of torch's only wait for each other, on a busy machine for long.
OMP_NUM_THREADS=1 "$work/venv/bin/fasttail" demo
ls runs/demo
say "all is well"
