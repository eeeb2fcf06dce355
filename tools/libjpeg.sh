#!/bin/sh
# Builds libjpeg-turbo as a static library whose names stay inside what it is linked into: for wheels,
# which find none on the machine that they are installed on.
#
#   sh tools/libjpeg.sh PREFIX      needs curl, cmake, nasm (on x86) and a C compiler ($CC)
#   ARCH=aarch64                    another processor than this one's, with a CC that makes code for it
set -eu

prefix=$1
arch=${ARCH:-$(uname -m)}
# The version of Debian 12: a wheel decodes as an installation from source does there.
version=2.1.5
url=http://deb.debian.org/debian/pool/main/libj/libjpeg-turbo/libjpeg-turbo_$version.orig.tar.gz
sha256=254f3642b04e309fee775123133c6464181addc150499561020312ec61c1bf7c

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
curl -sSfL "$url" -o "$work/source.tar.gz"
echo "$sha256  $work/source.tar.gz" | sha256sum -c --quiet
mkdir "$work/source"
tar -xzf "$work/source.tar.gz" -C "$work/source" --strip-components 1
# CMake 4 reads files of before 3.5 only if it is told so.
cmake -S "$work/source" -B "$work/build" \
    -DCMAKE_POLICY_VERSION_MINIMUM=3.5 -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="$arch" \
    -DCMAKE_C_FLAGS=-fvisibility=hidden -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
    -DENABLE_SHARED=OFF -DWITH_TURBOJPEG=OFF -DREQUIRE_SIMD=ON \
    -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib >"$work/log" || {
    cat "$work/log"
    exit 1
}
cmake --build "$work/build" --target jpeg-static >>"$work/log" || {
    tail -n 40 "$work/log"
    exit 1
}
install -D -m 644 -t "$prefix/lib" "$work/build/libjpeg.a"
install -D -m 644 -t "$prefix/include" "$work/build/jconfig.h" "$work/source/jpeglib.h" \
    "$work/source/jmorecfg.h" "$work/source/jerror.h"
echo "libjpeg-turbo $version for $arch is in $prefix"
