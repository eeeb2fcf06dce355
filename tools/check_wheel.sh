#!/bin/sh
# Builds the wheel (build_wheel.sh) and tries it on a bare Debian, made here by debootstrap: Python, and
# nothing else from apt; no compiler, no library's headers, nothing of the checkout. Needs root, debootstrap,
# PyPI and Debian's packages.
#
#   sh tools/check_wheel.sh [--keep]     --keep: leaves the folder, and says where it is
#   SUITE=trixie                         Debian 13 with Python 3.13; the default is bookworm, with 3.11
#   PYTHON=python3.11                    the interpreter that the wheel is built with
#   WHEELS=DIR                           take the wheel and the sdist from there instead of building them
set -eu

PYTHON=${PYTHON:-python3}
SUITE=${SUITE:-bookworm}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
debian=$work/debian
if [ "${1:-}" = --keep ]; then
    echo "check_wheel: everything is in $work"
else
    trap 'rm -rf "$work"' EXIT
fi
say() { printf 'check_wheel: %s\n' "$*"; }

if [ -z "${WHEELS:-}" ]; then
    WHEELS=$work/dist
    sh "$root/tools/build_wheel.sh" "$WHEELS"
fi
wheel=$(echo "$WHEELS"/*"$(uname -m)".whl)
sdist=$(echo "$WHEELS"/*.tar.gz)
say "$(basename "$sdist") $(wc -c <"$sdist") bytes, $(basename "$wheel") $(wc -c <"$wheel") bytes"

# What is no Python has to be in both, but for the fuzzer, which tools/sanitize.py builds in a checkout.
tar -tzf "$sdist" | sed 's|^[^/]*/||' | sort >"$work/sdist.txt"
"$PYTHON" -c 'import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist(), sep="\n")' "$wheel" |
    sort >"$work/wheel.txt"
missing=0
count=0
for file in $(cd "$root" && git ls-files configs fasttail | grep -v -e '\.py$' -e '/fuzz\.c$' -e '^fasttail/configs$'); do
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
grep -qx fasttail/kernels/_jpeg_roi.so "$work/wheel.txt" || {
    say "MISSING in the wheel: the decoding kernel"
    missing=1
}
[ "$missing" = 0 ] || exit 1
say "$count files that are no Python are in both, the decoding kernel in the wheel"

say "making a bare Debian ($SUITE)"
debootstrap --variant=minbase --include=python3,python3-venv "$SUITE" "$debian" >"$work/debootstrap.log" || {
    tail -n 20 "$work/debootstrap.log"
    exit 1
}
# Packages are fetched out here, where the network and its settings are.
version=$(chroot "$debian" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
mkdir "$debian/wheels"
"$PYTHON" -m venv "$work/venv"
"$work/venv/bin/pip" download -qq --disable-pip-version-check --only-binary=:all: --python-version "$version" \
    --dest "$debian/wheels" "$wheel"
cat >"$debian/try.sh" <<'END'
set -eu
if command -v cc gcc clang; then exit 1; fi
python3 -m venv /venv
/venv/bin/pip install -qq --no-index --find-links /wheels fasttail
mkdir /empty
cd /empty
/venv/bin/python --version
/venv/bin/fasttail engines
simd=$(/venv/bin/python -c 'from fasttail import kernels; print(kernels.simd())')
echo "the decoding kernel computes with $simd"
if [ "$simd" = c ] && grep -q avx2 /proc/cpuinfo; then exit 1; fi
/venv/bin/python -c 'import fasttail; print("from", fasttail.__path__[0])'
/venv/bin/fasttail demo
ls runs/demo
du -sm /venv
END
say "installing and trying it there, Python $version"
mount -t proc proc "$debian/proc"
trap 'umount "$debian/proc"; [ "${1:-}" = --keep ] || rm -rf --one-file-system "$work"' EXIT
# Tiny batches: more threads of torch's only wait for each other, on a busy machine for long.
chroot "$debian" env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 OMP_NUM_THREADS=1 sh /try.sh
say "all is well"
